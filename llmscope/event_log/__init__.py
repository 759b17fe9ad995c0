"""The log protocol: how events are appended to, and read from, JSON Lines files that several
processes share. Both writers (telemetry and decisions) and every reader go through here.

Append (`LogWriter`): one `write` of one whole line on an `O_APPEND` descriptor kept open, under an
exclusive flock; a short write is cut back under the lock and raised; a tail that a dead writer left
unterminated is ended first, so that it stays one reject. The descriptor is compared with the path's
device and inode and reopened when the file was renamed or deleted.

Admission (`AdmissionLock`): an flock on a file beside the log that nobody renames or truncates.

Read (`LogTail`, `iter_lines`, `fingerprint_of`): whole lines only; a file is known by the SHA-256 of its
first min(1024, size) bytes, not by name or inode.

What does not belong here: what the lines mean.
"""

from llmscope.event_log._append import MAX_LINE_BYTES, Durability, LogWriter
from llmscope.event_log._lock import (
    LONGEST_WAIT_SECONDS,
    AdmissionLock,
    forget_descriptors_on_fork,
    waits,
)
from llmscope.event_log._read import (
    FINGERPRINT_BYTES,
    READ_BYTES,
    RETIRED_SECONDS,
    Chunk,
    FileEnd,
    Fingerprint,
    LeftGeneration,
    LogTail,
    Position,
    fingerprint_of,
    iter_lines,
    open_log,
    rotated_siblings,
)
from llmscope.event_log._watch import LogWatch

__all__ = [
    "FINGERPRINT_BYTES",
    "LONGEST_WAIT_SECONDS",
    "MAX_LINE_BYTES",
    "READ_BYTES",
    "RETIRED_SECONDS",
    "AdmissionLock",
    "Chunk",
    "Durability",
    "FileEnd",
    "Fingerprint",
    "LeftGeneration",
    "LogTail",
    "LogWatch",
    "LogWriter",
    "Position",
    "fingerprint_of",
    "forget_descriptors_on_fork",
    "iter_lines",
    "open_log",
    "rotated_siblings",
    "waits",
]
