"""Functions that a configuration file names as `package.module:function`.

What does not belong here: what a function is for, and how its name got into the file.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def imported_function(name: str, *, refuse: Callable[[str], Exception]) -> Callable[..., Any]:
    """The function that `package.module:function` names.

    Args:
        refuse: makes the error to raise from a message; usually an exception class.

    Raises:
        Exception: of `refuse`: it cannot be imported, or cannot be called.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise refuse(f"the function {name!r} cannot be imported: {exc}") from exc
    return checked_callable(name, found, refuse=refuse)


def checked_callable(name: str, found: Any, *, refuse: Callable[[str], Exception]) -> Callable[..., Any]:
    """`found`, which goes by `name`.

    Raises:
        Exception: of `refuse`: it cannot be called.
    """
    if not callable(found):
        raise refuse(f"{name!r} is a {type(found).__name__}, which cannot be called")
    return found  # type: ignore[no-any-return]
