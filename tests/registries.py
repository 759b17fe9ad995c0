"""What llmscope keeps per process, as it was before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llmscope.gateway import cost_model, policies, provider
from llmscope.gateway.runtime import Runtime, use_runtime


@contextmanager
def restored_registries() -> Iterator[None]:
    """Whatever the block registers (providers, routes, prices) is gone after it; within it no runtime is in
    use but what the block puts to use."""
    registries = (provider._registry, policies._ROUTE_POLICIES)
    before = [dict(registry) for registry in registries]
    prices = list(cost_model._registered)
    use_runtime(Runtime())
    try:
        yield
    finally:
        use_runtime(None)
        cost_model._registered[:] = prices
        for registry, content in zip(registries, before, strict=True):
            registry.clear()
            registry.update(content)
