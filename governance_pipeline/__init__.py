"""The warehouse and its answers: two logs folded into five questions, checked, published and watched.

For notebooks:

    from governance_pipeline import answer

    answer("unsafe_routes", since="7d")     # a pandas.DataFrame
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from governance_pipeline.answers import answer, ask_files

__all__ = ["answer", "ask_files"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from governance_pipeline import answers  # noqa: PLC0415  (DuckDB and pandas load at first use)

        return getattr(answers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
