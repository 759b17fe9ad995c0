"""Which policy a gate follows, and whether its file says something else by now.

What does not belong here: what a file may say (`policy_file`), what follows from it (`judgement`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policy_runtime.policy import Policy
    from policy_runtime.policy_file import LoadedPolicy

    PolicySource = str | os.PathLike[str] | Mapping[str, Any] | Policy | None

_LOOK_SECONDS = 1.0
# The packaged policy: what a gate follows that is given none.
NO_RULES: Mapping[str, Any] = {"version": 1, "namespaces": {"default": {"rules": []}}}


class PolicyInForce:
    """A policy and the file that it came from.

    Args:
        source: what `load_policy` takes.

    Raises:
        PolicyFileError: the policy cannot be enforced as written.
    """

    def __init__(self, source: PolicySource) -> None:
        from policy_runtime.policy_file import load_policy  # noqa: PLC0415  pydantic and the models: see there

        # Looked at before it is read: an edit meanwhile is one that has not been read.
        self._identity = _file_identity(Path(source)) if isinstance(source, (str, os.PathLike)) else None
        self.loaded: LoadedPolicy = load_policy(source)
        self._path = self.loaded.path
        self._looked_at = time.monotonic()

    def await_file(self, path: Path | None) -> None:
        """Follow the file at `path` from when it is there, where the policy came from none."""
        self._path = self._path or path

    def file_has_changed(self) -> bool:
        """Whether the file is not the one read last; looked at once a second at most."""
        path = self._path
        if path is None:
            return False
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = now
        identity = _file_identity(path)
        return identity is not None and identity != self._identity

    def read_again(self) -> bool:
        """Read the file; whether it says something else, which is in force then.

        Raises:
            PolicyFileError: why it was refused; the policy stays, and the file as it is now is not said to
                have changed again.
        """
        from policy_runtime.policy_file import load_policy  # noqa: PLC0415

        path = self._path
        if path is None:
            return False
        self._identity = _file_identity(path)
        if self._identity is None and self.loaded.path is None:
            return False
        loaded = load_policy(path)
        if loaded.hash == self.loaded.hash:
            return False
        self.loaded = loaded
        return True


def _file_identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is edited or replaced; None when it is not there, or not to be looked at."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
