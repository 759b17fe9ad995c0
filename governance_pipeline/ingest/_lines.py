"""Whole lines out of a stream of bytes, in blocks, with memory bounded whatever the lines are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llmscope.event_log import MAX_LINE_BYTES

# What is decoded at once and read next stays in the processor's cache; DuckDB's threads take turns at blocks.
BLOCK_BYTES = 1 << 20
HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines as they stand in the file from `offset` on, until the next block is asked for.

    `data` ends in a newline, except for the last line of a file that will not grow any more. Its memory is
    used again for the next block: fresh memory costs more than what is read into it.
    """

    offset: int
    data: memoryview

    @property
    def end(self) -> int:
        """Where the next line begins."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line of 1 MiB or more, of which only its beginning was kept. `line_bytes` without its newline."""

    offset: int
    line_bytes: int
    head: bytes
    end: int


def whole_lines(
    read_into: Callable[[memoryview], int],
    offset: int,
    *,
    complete: Callable[[], bool],
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Block | LongLine]:
    """Cut what is read from `offset` on into blocks of whole lines and single over-long lines.

    Args:
        read_into: fills the beginning of what it is given; how many bytes, 0 at the end.
        complete: asked at the end: whether an unterminated tail is a line (else it stays pending and
            nothing is yielded for it).
        block_bytes: how much is read at once.
    """
    buffer = bytearray(MAX_LINE_BYTES + block_bytes)
    view = memoryview(buffer)
    held = 0  # bytes at the beginning of the buffer that no block has held yet
    searched = 0  # how many of them are known to hold no newline
    while True:
        count = read_into(view[held : held + block_bytes])
        held += count
        end = buffer.rfind(b"\n", searched, held) + 1
        if end:
            yield Block(offset, view[:end])
            offset += end
            view[: held - end] = view[end:held]
            held -= end
        elif not count:
            break
        searched = held
        if held >= MAX_LINE_BYTES:
            head, length = bytes(view[:HEAD_BYTES]), held
            held = searched = 0
            ended = False
            while not ended and (count := read_into(view[:block_bytes])):
                newline = buffer.find(b"\n", 0, count)
                ended = newline >= 0
                length += newline if ended else count
            if not ended and not complete():
                return
            yield LongLine(offset, length, head, offset + length + ended)
            offset += length + ended
            if ended:
                held = count - newline - 1
                view[:held] = view[newline + 1 : count]
    if held and complete():
        yield Block(offset, view[:held])
