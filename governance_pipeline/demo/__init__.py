"""`governance demo`: an hour of real production traffic, replayed through the gate with one planted story.

The trace is real (`trace`), the story is invented and parametrised (`story`), who asks what and when
follows from both (`schedule`), the calls go through the real gate and gateway (`replay`), the pipeline
finds out (`run`), and the terminal tells (`telling`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from governance_pipeline.demo.run import run_demo

__all__ = ["run_demo"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from governance_pipeline.demo import run  # noqa: PLC0415  (Dagster loads at first use)

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
