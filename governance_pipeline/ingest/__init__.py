"""Ingest: every byte of every log file becomes, exactly once, a row, a reject or a blank line.

Rows, rejects and the new offsets commit in one transaction, so that a kill at any instant leaves
either all of a run or none of it. Files are known by their content, not by name or inode.

    _files       finding and opening log files, and fixing how far each is read
    _lines       whole lines out of bytes, with bounded memory
    _readers     what a valid line is, per log: the very functions that the gate reads with
    _instants    the one form in which instants are handed on
    _ledger      which files are known and how far they have been taken
    _load        the valid lines of a file into DuckDB

What does not belong here: what the lines mean (`sql/staging/`).
"""

from governance_pipeline.ingest._run import FileReport, IngestReport, ingest

__all__ = ["FileReport", "IngestReport", "ingest"]
