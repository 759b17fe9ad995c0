"""Following the logs, and the cold start: reading only what the longest window needs.

Rotated siblings are read as far back as the window reaches (`generations`). What does not belong here:
what a decision line says (`folded_decisions`), what the events mean (`ledger`).
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from llmscope.errors import MalformedLine
from llmscope.event_log import (
    FINGERPRINT_BYTES,
    MAX_LINE_BYTES,
    LeftGeneration,
    LogTail,
    fingerprint_of,
    iter_lines,
)
from llmscope.telemetry_batch import BatchReader
from llmscope.telemetry_line import read_usage
from policy_runtime.breaks import Breaks
from policy_runtime.folded_decisions import fold_decision_line
from policy_runtime.generations import (
    OVERLAP_BYTES,
    FoldedFile,
    Generation,
    UnreadGeneration,
    first_offset_since,
    generations_since,
    open_generations,
    resume,
)
from policy_runtime.ledger import Ledger

logger = logging.getLogger("policy_runtime")

# File times are compared with this much room, for what keeps them in whole seconds.
_FILE_TIME_NS = 2_000_000_000
# Enough for what is rotated within that time.
_GENERATIONS_REMEMBERED = 64
# From here on lines are cheaper folded together than one by one.
_BATCH_FROM_BYTES = 8 << 10
# In the background so much is folded from one look at the clock to the next.
_PIECE_BYTES = 64 << 10


class LogFollower:
    """One log and the ledger it feeds.

    Args:
        path: the log.
        after: of a telemetry log, the follower of the decision log: whatever telemetry has been read is
            folded after the decisions that stood in their log by then, for a bill follows its decision.
            None for the decision log itself.
        gives_way: whether to pause every millisecond, for the threads that decide meanwhile.

    Attributes:
        rejected: lines that were no events, since the start.
        unread: rotated files that could not be opened when they were looked for last.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        after: LogFollower | None = None,
        gives_way: bool = False,
    ) -> None:
        self.path = Path(path)
        self.tail = LogTail(path)
        self.rejected = 0
        self.unread: list[UnreadGeneration] = []
        self._after = after
        self._batches = BatchReader()
        self._breaks = Breaks() if gives_way else None
        self._since_us = 0
        # A file and how far into it all bills were there before the decisions were read.
        self._decided = 0, 0
        self._is_decided = False
        self._read_before: deque[LeftGeneration] = deque(maxlen=_GENERATIONS_REMEMBERED)
        self._states: dict[tuple[int, int], tuple[int, int]] = {}
        # For a checkpoint after the start.
        self._folded: list[FoldedFile] = []
        self._files_moved = False
        self._latest_us = 0
        self._overlap = b""

    def fold_new(self, ledger: Ledger) -> bool:
        """Fold what was appended since the last look, in whatever file it has ended up since; whether
        its present file brought anything."""
        chunks = self.tail.poll()
        if not chunks and not self.tail.left:  # as almost always when a decision looks
            return False
        folded, latest_missed_us = False, 0
        for chunk in chunks:
            if self.tail.left:  # earlier than this chunk, which is its successor's
                latest_missed_us = max(latest_missed_us, self._fold_missed(ledger))
            folded = True
            source, until = self._decided
            self._is_decided = chunk.source == source and chunk.offset + len(chunk.data) <= until
            self._fold(ledger, chunk.data, chunk.offset, self.tail.head_of(chunk.source))
            self._is_decided = False
        if self.tail.left:
            latest_missed_us = max(latest_missed_us, self._fold_missed(ledger))
        # One of them may have been the successor of what was open.
        ledger.last_decision_us = max(ledger.last_decision_us, latest_missed_us)
        return folded

    def fold_since(self, ledger: Ledger, since_us: int, folded: Sequence[FoldedFile] = ()) -> None:
        """Fold everything dated from `since_us` on, rotated siblings first, and follow from there.

        Older decisions are left out even where they are read: their bills may not be.

        Args:
            folded: files of which the ledger holds the beginnings already.

        Raises:
            NotAsFolded: not all of those beginnings are still there.
        """
        self._since_us = since_us
        begun_ns = time.time_ns()
        self.tail.seek(0)
        descriptor = self.tail.descriptor
        generations = self._open_generations()
        try:
            resumed, live = resume(folded, generations, descriptor, since_us)
            needed = generations_since(generations, since_us)
            for generation in generations:
                if generation not in needed:
                    self._remember(generation, 0)
            for generation in needed:
                self._fold_or_skip(ledger, generation, since_us, resumed.get(generation))
        finally:
            _close(generations)
        self._latest_us = live.latest_us if live else 0
        if live is not None:
            self.tail.seek_open(live.offset)
        elif descriptor is not None:
            size = os.fstat(descriptor).st_size
            self.tail.seek_open(first_offset_since(descriptor, size, since_us))
        if self._after is not None and descriptor is not None:
            size = os.fstat(descriptor).st_size
            self._after.fold_new(ledger)
            self._decided = self.tail.source, size
        # What was rotated while we read.
        self.tail.left.append(LeftGeneration(b"", 0, begun_ns, None))
        self.fold_new(ledger)

    def folded_files(self) -> list[FoldedFile] | None:
        """After a start: how far each file was folded in it. None when files were moving meanwhile."""
        descriptor, offset = self.tail.descriptor, self.tail.offset
        if self._files_moved or self.tail.left or self.tail.was_renamed:
            return None
        if descriptor is None or not offset:
            return self._folded
        head = os.pread(descriptor, min(FINGERPRINT_BYTES, offset), 0)
        overlap = min(OVERLAP_BYTES, offset)
        end = os.pread(descriptor, overlap, offset - overlap)
        if len(head) < min(FINGERPRINT_BYTES, offset) or len(end) < overlap:
            return None
        return [*self._folded, FoldedFile.of(head, offset, end, self._latest_us)]

    def _fold_or_skip(
        self, ledger: Ledger, generation: Generation, since_us: int, before: FoldedFile | None
    ) -> None:
        """Fold of a generation what was not folded before."""
        if before is None or generation.has_beyond(before.offset):
            self._latest_us = before.latest_us if before else 0
            end = self._fold_generation(ledger, generation, since_us, before.offset if before else 0)
            before = FoldedFile.of(generation.head, end, self._overlap, self._latest_us)
        if before.offset:
            self._folded.append(before)
        self._remember(generation, before.offset)

    def _fold_missed(self, ledger: Ledger) -> int:
        """Fold what was rotated away before this follower saw it: generations that came and went
        between two looks, and what a copy-truncate copied that had not been read yet.

        Folding a line twice is harmless: ids that are known change nothing. Returns the latest decision's
        instant, for what is folded again must not make an earlier one the last.
        """
        left = self.tail.left
        self._read_before.extend(generation for generation in left if generation.head)
        modified_ns = min(generation.modified_ns for generation in left) - _FILE_TIME_NS
        last_decision_us = ledger.last_decision_us
        unread = self._unread_identities()
        generations = self._open_generations()
        try:
            for generation in reversed(generations):
                is_old = generation.modified_ns < modified_ns or self._is_as_left(generation)
                if is_old and generation.identity not in unread:
                    continue
                self._files_moved = True
                read = [old.offset for old in self._read_before if generation.head.startswith(old.head)]
                since_us = ledger.now_us - 2 * ledger.longest_us
                end = self._fold_generation(ledger, generation, since_us, max(read, default=0))
                self._remember(generation, end)
                if not read:
                    self.tail.note_read(generation.head, end)
            self._states = {found.identity: (found.modified_ns, found.size) for found in generations}
        finally:
            _close(generations)
        self.tail.left = []
        return max(ledger.last_decision_us, last_decision_us)

    def _open_generations(self) -> list[Generation]:
        """The rotated siblings that are not followed; what cannot be opened and was never read is noted."""
        generations, unread = open_generations(self.path, self.tail.identities)
        read = {generation.identity for generation in self._read_before}
        told = self._unread_identities()
        self.unread = [found for found in unread if found.identity not in read]
        for found in self.unread:
            if found.identity not in told:
                logger.error("a rotated log cannot be read, what is in it is not counted: %s", found.reason)
        return generations

    def _unread_identities(self) -> set[tuple[int, int]]:
        return {found.identity for found in self.unread}

    def _remember(self, generation: Generation, end: int) -> None:
        if generation.head:  # else nothing of it could be read when it was opened, and all begin like it
            read = LeftGeneration(generation.head, end, generation.modified_ns, generation.identity)
            self._read_before.append(read)
        self._states[generation.identity] = (generation.modified_ns, generation.size)
        descriptor = generation.descriptor_if_late()
        if descriptor is not None and end:
            self.tail.follow_for_a_while(descriptor, _line_begins_at(descriptor, end))

    def _is_as_left(self, generation: Generation) -> bool:
        """Whether nothing was written to it since it was looked at last."""
        return self._states.get(generation.identity) == (generation.modified_ns, generation.size)

    def _fold_generation(self, ledger: Ledger, generation: Generation, since_us: int, begin: int = 0) -> int:
        end, self._overlap = begin, b""
        for offset, data in generation.pieces(since_us, begin):
            self._fold(ledger, data, offset, generation.head)
            end = offset + len(data)
            self._overlap = data[-OVERLAP_BYTES:]
        return end

    def _fold(self, ledger: Ledger, data: bytes, offset: int, head: bytes) -> None:
        begin = 0
        while self._breaks is not None and len(data) - begin > _PIECE_BYTES:
            end = data.find(b"\n", begin + _PIECE_BYTES) + 1
            if not end:
                break
            self._fold_piece(ledger, data[begin:end], offset + begin, head)
            begin = end
            self._breaks.take()
        self._fold_piece(ledger, data[begin:], offset + begin, head)

    def _fold_piece(self, ledger: Ledger, data: bytes, offset: int, head: bytes) -> None:
        ledger.folded_bytes += len(data)
        if self._after is None:
            self._fold_decisions(ledger, data, offset)
            return
        try:
            if not self._is_decided:
                self._after.fold_new(ledger)
        finally:  # the bills have been read and will not be read again
            self._fold_bills(ledger, data, offset, head)

    def _fold_decisions(self, ledger: Ledger, data: bytes, offset: int) -> None:
        latest_us = self._latest_us
        for _, line in iter_lines(data, offset):
            if not line or line.isspace():
                continue
            try:
                latest_us = max(latest_us, fold_decision_line(ledger, line, self._since_us))
            except MalformedLine:
                self.rejected += 1
        self._latest_us = latest_us

    def _fold_bills(self, ledger: Ledger, data: bytes, offset: int, head: bytes) -> None:
        """Fold bills: together where there are many and all are plain and new, else one by one."""
        if len(data) >= _BATCH_FROM_BYTES:
            bills = self._batches.read(data)
            if bills is not None and ledger.bill_all(bills, self._batches.likes):
                self._latest_us = max(self._latest_us, bills.latest_us)
                return
        self._fold_each_bill(ledger, data, offset, head)

    def _fold_each_bill(self, ledger: Ledger, data: bytes, offset: int, head: bytes) -> None:
        latest_us = self._latest_us
        for at, line in iter_lines(data, offset):
            if not line or line.isspace():
                continue
            try:
                usage = read_usage(line, "")
            except MalformedLine:
                self.rejected += 1
                continue
            if usage is not None:
                latest_us = max(latest_us, usage.timestamp_us)
                if not usage.request_id:
                    line_id = f"line:{fingerprint_of(head).sha256[:32]}:{at}"
                    usage = msgspec.structs.replace(usage, request_id=line_id)
                ledger.bill(usage)
        self._latest_us = latest_us


def _line_begins_at(descriptor: int, end: int) -> int:
    """Where the line begins that the byte `end` stands in, or begins."""
    begin = max(0, end - MAX_LINE_BYTES)
    return begin + os.pread(descriptor, end - begin, begin).rfind(b"\n") + 1


def _close(generations: list[Generation]) -> None:
    for generation in generations:
        generation.close()
