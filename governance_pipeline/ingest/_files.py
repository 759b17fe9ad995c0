"""Finding and opening log files, and fixing how far each is read.

Which files are meant is told by `log_files`. The end
of a plain file is its size when it was opened; a gzip file is read to its own end.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from governance_pipeline.errors import IngestError
from governance_pipeline.log_files import find_log_files
from llmscope.event_log import FINGERPRINT_BYTES
from llmscope.log_names import Named

_GZIP_MAGIC = b"\x1f\x8b"
# A log that rotates while its files are being opened is looked at again; nothing rotates ten times
# in the milliseconds that takes.
_MOST_LOOKS = 10

OVERLAP_BYTES = 64


class LogFile:
    """One opened log file, read forward from any offset of its decompressed bytes up to its fixed end.

    Attributes:
        path: where it was opened.
        identity: (device, inode), by which the same file under two names is read once.
        compressed: whether it is gzip.
        compressed_identity: device, inode, size and time of a gzip file, None of a plain one.
        first_bytes: as many as a fingerprint covers.
        problem: why reading stopped before the end, if it did.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._plain = path.open("rb", buffering=0)
        stat = os.fstat(self._plain.fileno())
        self.identity = (stat.st_dev, stat.st_ino)
        self.compressed = self._plain.read(2) == _GZIP_MAGIC
        self.compressed_identity = (
            f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}" if self.compressed else None
        )
        self._size = stat.st_size
        self._stream: gzip.GzipFile | None = None
        self._position = 0
        self._last = b""
        self.problem: str | None = None
        self._rewind()
        self.first_bytes = self.read(FINGERPRINT_BYTES)

    def seek(self, offset: int) -> bytes | None:
        """Go to `offset`; returns the bytes just before it (up to 64), None when the file ends earlier."""
        if not self.compressed:
            self._rewind()
            if offset > self._size:
                return None
            self._position = max(0, offset - OVERLAP_BYTES)
        else:
            self._rewind()
            while self._position < offset - OVERLAP_BYTES:
                if not self.read(min(1 << 20, offset - OVERLAP_BYTES - self._position)):
                    return None
        overlap = b""
        while len(overlap) < min(OVERLAP_BYTES, offset):
            piece = self.read(min(OVERLAP_BYTES, offset) - len(overlap))
            if not piece:
                return None
            overlap += piece
        return overlap

    def read(self, count: int) -> bytes:
        """Up to `count` further bytes; none at the end, or where a damaged gzip file cannot be read on."""
        data = bytearray(count)
        return bytes(data[: self.read_into(memoryview(data))])

    def read_into(self, view: memoryview) -> int:
        """`read` into the beginning of `view`; how many bytes."""
        if self._stream is None:
            self._plain.seek(self._position)
            count = self._plain.readinto(view[: max(0, self._size - self._position)]) or 0
        else:
            data = self._inflate(self._stream, len(view))
            count = len(data)
            view[:count] = data
            self._last = (self._last + data[-OVERLAP_BYTES:])[-OVERLAP_BYTES:]
        self._position += count
        return count

    def before(self, offset: int) -> bytes:
        """The bytes just before `offset`, up to 64."""
        if self.compressed and self._position == offset:
            return self._last[-min(OVERLAP_BYTES, offset) :]
        return self.seek(offset) or b""

    def pending_bytes(self, taken: int) -> int:
        """Bytes after `taken` that stay for later: an unterminated tail. 0 for gzip."""
        return 0 if self.compressed else max(0, self._size - taken)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
        self._plain.close()

    def _inflate(self, stream: gzip.GzipFile, count: int) -> bytes:
        """Up to `count` bytes; what comes out before the file breaks off is kept."""
        pieces = []
        try:
            while count > 0 and (piece := stream.read1(count)):
                pieces.append(piece)
                count -= len(piece)
        except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
            reached = self._position + sum(map(len, pieces))
            self.problem = f"gzip is incomplete or damaged after byte {reached}: {exc}"
        return b"".join(pieces)

    def _rewind(self) -> None:
        if self.compressed:
            if self._stream is not None:
                self._stream.close()
            self._plain.seek(0)
            self._stream = gzip.GzipFile(fileobj=self._plain, mode="rb")
        self._position = 0
        self._last = b""
        self.problem = None


def open_all(
    named: Sequence[Named], *, siblings: bool, already_taken: frozenset[str] = frozenset()
) -> list[LogFile]:
    """Open every file that is named, and so fix how far each will be read.

    The folder is looked at again afterwards: a file that a rotation brought meanwhile is opened too,
    so that nothing written before this call returned can be missed.

    Args:
        already_taken: `compressed_identity` of gzip files that are known to be read to their end.

    Raises:
        IngestError: a file cannot be read, or the files keep changing.
    """
    for _ in range(_MOST_LOOKS):
        files: dict[tuple[int, int], LogFile] = {}
        for path in find_log_files(named, siblings=siblings):
            try:
                file = LogFile(path)
            except FileNotFoundError:
                continue
            except OSError as exc:
                close_all(files.values())
                raise IngestError(f"{path} cannot be read: {exc.strerror}") from exc
            if file.identity in files:
                file.close()
            else:
                files[file.identity] = file
        if _identities(find_log_files(named, siblings=siblings)) <= files.keys():
            wanted = [file for file in files.values() if file.compressed_identity not in already_taken]
            close_all(file for file in files.values() if file.compressed_identity in already_taken)
            return wanted
        close_all(files.values())
    raise IngestError(f"the files of {', '.join(map(str, named))} keep changing while they are opened")


def close_all(files: Iterable[LogFile]) -> None:
    """Close every file."""
    for file in files:
        file.close()


def _identities(paths: Sequence[Path]) -> set[tuple[int, int]]:
    identities = set()
    for path in paths:
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        identities.add((stat.st_dev, stat.st_ino))
    return identities
