"""A provider that answers from a file: the same answers each time, without a network.

What does not belong here: where the answers come from (`suites`).
"""

from __future__ import annotations

from collections.abc import Mapping

from llmscope import ProviderBase, ProviderResponse, estimate_tokens


class RecordedProvider(ProviderBase):
    """Answers by the exact prompt. Token counts are llmscope's estimates."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self._answers = dict(answers)

    @property
    def provider_name(self) -> str:
        return "recorded"

    async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        """The recorded answer.

        Raises:
            KeyError: none was recorded for this prompt.
        """
        del model, max_output_tokens
        answer = self._answers[prompt]
        return ProviderResponse(answer, estimate_tokens(prompt), estimate_tokens(answer), "stop")
