"""A checkpoint beside the decision log: the folded ledger and how far every file is in it, so that a gate
with a long window starts by reading what came since.

Derived and safe to delete: without it, or with one that does not fit, the start reads the whole window
and comes to the same state. It fits when it is whole, of this format, of the same policy, not from the
future, and every file that it has folded and that the window still reaches into is there as it was.
What does not belong here: the ledger as data (`ledger_state`), which files those are (`generations`).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from llmscope.event_log import AdmissionLock
from policy_runtime.errors import PolicyRuntimeError
from policy_runtime.generations import FoldedFile
from policy_runtime.ledger import Ledger
from policy_runtime.ledger_state import LedgerCopy, LedgerState, ledger_of
from policy_runtime.policy import Policy

logger = logging.getLogger("policy_runtime")

# To be changed with everything that changes what a ledger holds after the same events.
_FORMAT = b"llm-governance gate checkpoint 1\n"
_CHECKSUM_BYTES = 4


class Checkpoint(msgspec.Struct):
    """What is stored: the policy's digest, per log (decisions first) the files folded, the ledger."""

    policy_sha256: str
    logs: list[list[FoldedFile]]
    ledger: LedgerState


class Snapshot(NamedTuple):
    """What a checkpoint is made of: a ledger's policy, per log (decisions first) the files folded, and the
    ledger as it was then."""

    policy: Policy
    logs: list[list[FoldedFile]]
    ledger: LedgerCopy


def checkpoint_path(decisions_path: Path) -> Path:
    """Where the checkpoint of the gates that share a decision log lies."""
    return decisions_path.with_name(f"{decisions_path.name}.checkpoint")


def load(path: Path, policy: Policy, latest_us: int) -> tuple[Ledger, list[list[FoldedFile]]] | None:
    """The ledger of the checkpoint and the files folded into it; None where there is none that fits.

    Why one does not fit is said in the process's log. One made after `latest_us` does not.
    """
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        pass_over(path, f"it cannot be read ({exc.strerror})")
        return None
    begin = len(_FORMAT) + _CHECKSUM_BYTES
    if not stored.startswith(_FORMAT):
        pass_over(path, "it is of another version, or none of ours")
        return None
    body = memoryview(stored)[begin:]
    if zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "big") != stored[len(_FORMAT) : begin]:
        pass_over(path, "it is damaged")
        return None
    try:
        checkpoint = msgspec.msgpack.decode(body, type=Checkpoint)
        if checkpoint.policy_sha256 != _digest_of(policy):
            pass_over(path, "it is of another policy")
            return None
        if checkpoint.ledger.now_us > latest_us:
            pass_over(path, "it is from the future")
            return None
        return ledger_of(checkpoint.ledger, policy), checkpoint.logs
    except (msgspec.DecodeError, ValueError, IndexError, PolicyRuntimeError) as exc:
        pass_over(path, f"it cannot be understood ({exc})")
        return None


def save(path: Path, snapshot: Snapshot) -> bool:
    """Replace the checkpoint, whole or not at all; whether it was done.

    Of several processes one does it, the others leave it to that one. A failure is said in the
    process's log: it costs nothing but the time of the next start.
    """
    lock = AdmissionLock(f"{path}.lock")
    new = path.with_name(f"{path.name}.new")
    try:
        if not lock.try_acquire():
            return False
        try:
            policy, logs, ledger = snapshot
            body = msgspec.msgpack.encode(Checkpoint(_digest_of(policy), logs, ledger.state()))
            with new.open("wb") as stream:
                stream.write(_FORMAT + zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "big"))
                stream.write(body)
            os.replace(new, path)  # noqa: PTH105  the atomic one, said as such
        finally:
            lock.release()
    except (OSError, OverflowError) as exc:  # a sum may be larger than the format's integers
        logger.warning("no checkpoint could be written to %s: %s", path, exc)
        with contextlib.suppress(OSError):  # the disk may be full of what is left of it
            new.unlink(missing_ok=True)
        return False
    finally:
        lock.close()
    return True


def pass_over(path: Path, reason: str) -> None:
    """Say that a checkpoint does not fit, and why."""
    logger.warning("the checkpoint %s is passed over, the logs are read instead: %s", path, reason)


def _digest_of(policy: Policy) -> str:
    return hashlib.sha256(policy.model_dump_json().encode()).hexdigest()
