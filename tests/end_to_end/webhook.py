"""A webhook on loopback that remembers what it was told, and can fail or hang."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Webhook(ThreadingHTTPServer):
    """A sink on loopback that remembers what it was told and answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.told: list[str] = []
        self.heard = threading.Event()
        self.answers_after: threading.Event | None = None

    @property
    def url(self) -> str:
        """Its address; whoever calls gives up on it after half a second."""
        return f"json://127.0.0.1:{self.server_address[1]}/?rto=0.5"


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(json.loads(body)["message"])
        self.server.heard.set()
        if self.server.answers_after is not None:
            self.server.answers_after.wait(5)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the test reads `told`."""


@contextmanager
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
