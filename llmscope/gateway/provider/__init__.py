"""Providers: the contract, the registry, and the vendors that are built in.

A provider makes exactly one API call and says what its errors mean; retries, fallbacks, money and
telemetry are the gateway's. The vendors' SDKs are imported at the first call. What does not belong
here: the offline provider (`gateway.simulated`).
"""

from __future__ import annotations

from llmscope.gateway.provider.anthropic_client import AnthropicProvider
from llmscope.gateway.provider.contract import (
    UNBILLED_CATEGORIES,
    InputUsage,
    ProviderBase,
    ProviderResponse,
    StreamItem,
    is_known_unbilled,
)
from llmscope.gateway.provider.openai_client import OpenAICompatibleProvider, OpenAIProvider
from llmscope.gateway.provider.registry import (
    _registry as _registry,  # what tests restore
)
from llmscope.gateway.provider.registry import (
    available_providers,
    get_provider,
    register_provider,
)
from llmscope.gateway.provider.sdk import DEFAULT_TIMEOUT_SECONDS

__all__ = [
    "DEFAULT_TIMEOUT_SECONDS",
    "UNBILLED_CATEGORIES",
    "AnthropicProvider",
    "InputUsage",
    "OpenAICompatibleProvider",
    "OpenAIProvider",
    "ProviderBase",
    "ProviderResponse",
    "StreamItem",
    "available_providers",
    "get_provider",
    "is_known_unbilled",
    "register_provider",
]
