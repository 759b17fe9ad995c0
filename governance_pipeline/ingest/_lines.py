"""Whole lines out of a stream of bytes, in blocks, with memory bounded whatever the lines are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llmscope.event_log import MAX_LINE_BYTES

# Small enough for a block and what is decoded from it to stay in the processor's cache: 16 MiB at once take
# half as long again.
BLOCK_BYTES = 2 << 20
HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines as they stand in the file from `offset` on.

    `data` ends in a newline, except for the last line of a file that will not grow any more.
    """

    offset: int
    data: bytes

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
    read: Callable[[int], bytes], offset: int, *, complete: Callable[[], bool], block_bytes: int = BLOCK_BYTES
) -> Iterator[Block | LongLine]:
    """Cut what `read(n)` yields from `offset` on into blocks of whole lines and single over-long lines.

    Args:
        read: gives up to n further bytes, none at the end.
        complete: asked at the end: whether an unterminated tail is a line (else it stays pending and
            nothing is yielded for it).
        block_bytes: how much is read at once.
    """
    carry = b""
    while piece := read(block_bytes):
        data = carry + piece if carry else piece
        end = data.rfind(b"\n") + 1
        if end:
            yield Block(offset, data[:end])
            offset += end
        carry = data[end:]
        if len(carry) >= MAX_LINE_BYTES:
            head, length = carry[:HEAD_BYTES], len(carry)
            carry = b""
            ended = False
            while not ended and (piece := read(block_bytes)):
                newline = piece.find(b"\n")
                ended = newline >= 0
                length += newline if ended else len(piece)
                carry = piece[newline + 1 :] if ended else b""
            if not ended and not complete():
                return
            yield LongLine(offset, length, head, offset + length + ended)
            offset += length + ended
            end = carry.rfind(b"\n") + 1
            if end:
                yield Block(offset, carry[:end])
                offset += end
                carry = carry[end:]
            # A carry that is itself over-long is met again with the next piece.
    if carry and complete():
        yield Block(offset, carry)
