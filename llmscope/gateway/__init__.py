"""The gateway: `call_llm` and its parts."""
