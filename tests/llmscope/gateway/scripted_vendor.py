"""A server on loopback that answers byte by byte as a test tells it to: in pieces, slowly, not to the end."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any


class Then(Enum):
    """What the server does after the pieces."""

    END = "end"  # the answer ends as HTTP wants it
    CLOSE = "close"  # the connection is closed in the middle of the answer
    RESET = "reset"  # the connection is reset, once the test says `go_on`
    HANG = "hang"  # nothing more comes until the client leaves


def patience_seconds(then: Then) -> float:
    """A client's timeout that only a vendor that hangs can exceed, however busy the machine is."""
    return 0.15 if then is Then.HANG else 30


class ScriptedVendor:
    """Answers every request alike.

    Attributes:
        requests: the body of each request, decoded.
        headers: the headers of each request, lower case.
        left: set when a client has closed its connection before the answer's end.
        go_on: what a reset waits for; it would overtake what was sent before it.
    """

    def __init__(
        self,
        pieces: Iterable[bytes],
        then: Then = Then.END,
        *,
        status: int | None = 200,  # None: not even a status line
        content_type: str = "text/event-stream",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.pieces = list(pieces)
        self.then = then
        self.status = status
        self.content_type = content_type
        self.extra_headers = headers or {}
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.left = asyncio.Event()
        self.go_on = asyncio.Event()
        self.base_url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedVendor]:
        """Serve while the block runs."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.base_url = f"http://{host}:{port}"
        self._handlers: set[asyncio.Task[Any]] = set()
        try:
            yield self
        finally:
            server.close()
            for handler in list(self._handlers):
                handler.cancel()
            await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            self._handlers.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.headers.append(headers)
        self.requests.append(json.loads(body))
        answered = {
            "content-type": self.content_type, "transfer-encoding": "chunked", "connection": "close",
            **self.extra_headers,
        }  # fmt: skip
        if self.status is not None:
            writer.write(f"HTTP/1.1 {self.status} Scripted\r\n".encode())
            writer.write("".join(f"{key}: {value}\r\n" for key, value in answered.items()).encode() + b"\r\n")
        for piece in self.pieces:
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)
        if self.then is Then.END:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        elif self.then is Then.RESET:
            await self.go_on.wait()
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif self.then is Then.HANG and await reader.read(1) == b"":
            self.left.set()
