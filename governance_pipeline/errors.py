"""Every error that governance_pipeline raises on purpose, in one tree.

PipelineError
├── SqlFileError (ValueError)        a file under sql/ that cannot be used as written: which, and why
├── WarehouseError
│   ├── WarehouseLocked              another process holds the file: its path and the holder's PID
│   ├── WarehouseUnavailable         the file cannot be opened or created (permission, folder, damage)
│   └── WarehouseVersionMismatch     the file was written by another version of this package
├── IngestError
│   ├── IngestBusy                   another ingest into the same warehouse is under way in this process
│   └── ReadersDisagree              a line that Python took was refused by SQL, or the other way round
├── NothingPublished                 there are no answers yet
├── SegmentsMissing                  a rebuild would lose what only the warehouse still holds
├── ArchiveDamaged                   an archived segment does not read back as what was archived
└── BadInput (ValueError)            something the user gave that cannot be used; the message names the fix

What does not belong here: rejects. A malformed log line is data, kept in `raw.rejected_lines`.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Root of the tree."""


class SqlFileError(PipelineError, ValueError):
    """A file under `sql/` is missing, empty, not SQL, or declares other parameters than it uses."""


class BadInput(PipelineError, ValueError):
    """A path, value or name from the user that cannot be used."""


class WarehouseError(PipelineError):
    """The warehouse cannot be used now."""


class WarehouseLocked(WarehouseError):
    """Another process holds the warehouse.

    Attributes:
        path: the warehouse file.
        holder_pid: the process that holds it, None when DuckDB did not say.
    """

    def __init__(self, path: str, holder_pid: int | None, waited_seconds: float) -> None:
        self.path = path
        self.holder_pid = holder_pid
        holder = f"process {holder_pid}" if holder_pid is not None else "another process"
        super().__init__(
            f"{path} is held by {holder}; waited {waited_seconds:.1f} s. "
            "Try again when that run has ended, or read the published answers with `governance ask`."
        )


class WarehouseUnavailable(WarehouseError):
    """The warehouse file cannot be opened or created."""


class WarehouseVersionMismatch(WarehouseError):
    """The warehouse was written by another version; the logs are the truth, so it can be rebuilt."""


class IngestError(PipelineError):
    """An ingest could not be carried out; nothing of it was committed."""


class IngestBusy(IngestError):
    """Another ingest into this warehouse is under way."""


class ReadersDisagree(IngestError):
    """The Python reader and the SQL reader of lines came to different answers: a defect of ours."""


class NothingPublished(PipelineError):
    """Nobody has published answers yet; the message says what to run."""


class SegmentsMissing(PipelineError):
    """Log files that were ingested are no longer on disk; the message names them."""


class ArchiveDamaged(PipelineError):
    """An archived log segment does not read back as what was archived; the message names it."""
