"""The runtime contract and gateway."""
