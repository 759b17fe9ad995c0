"""The providers that routes and fallbacks can name."""

from __future__ import annotations

from llmscope.errors import ConfigurationError
from llmscope.gateway.provider.anthropic_client import AnthropicProvider
from llmscope.gateway.provider.contract import ProviderBase
from llmscope.gateway.provider.openai_client import OpenAIProvider

_registry: dict[str, ProviderBase] = {"openai": OpenAIProvider(), "anthropic": AnthropicProvider()}


def register_provider(name: str, provider: ProviderBase) -> None:
    """Make `provider` reachable as `name` for routes and fallbacks; a name taken is replaced."""
    _registry[name] = provider


def get_provider(name: str) -> ProviderBase:
    """The provider registered as `name`.

    Raises:
        ConfigurationError: there is none; the message lists those there are.
    """
    provider = _registry.get(name)
    if provider is None:
        raise ConfigurationError(
            f"Provider '{name}' is not registered. Registered: {', '.join(available_providers())}. "
            "Add it with llmscope.register_provider."
        )
    return provider


def available_providers() -> list[str]:
    """The names of all registered providers."""
    return list(_registry)
