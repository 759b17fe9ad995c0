"""One span a call, whole or streamed, though the Anthropic SDK traces itself; in a process of its own, for the
SDK records with the process's global tracer."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

import llmscope
from tests.llmscope.gateway.vendors import VENDORS


def spans_of_two_calls(vendor: str, httpserver: HTTPServer, folder: Path, *, prelude: str = "") -> int:
    """How many spans a whole answer and a streamed one make in a process with a real SDK."""

    def respond(request: Any) -> Response:
        if request.json.get("stream"):
            return Response(b"".join(sample.whole_stream()), content_type="text/event-stream")
        return Response(sample.body(), content_type="application/json")

    sample = VENDORS[vendor]
    httpserver.expect_request(sample.path).respond_with_handler(respond)
    root = Path(llmscope.__file__).parent.parent
    script = f"""
        import asyncio, llmscope
        from tests.llmscope.gateway.vendors import VENDORS
        {prelude}

        async def main():
            options = {{"telemetry_path": {str(folder / "t.jsonl")!r}}}
            await llmscope.call_llm("Hi", "cheap", "/v", **options)
            async with llmscope.stream_llm("Hi", "cheap", "/v", **options) as stream:
                assert [piece async for piece in stream] == ["Hello", " there"]

        llmscope.setup_otel()
        provider = VENDORS[{vendor!r}].make({httpserver.url_for("").rstrip("/")!r}, 10)
        llmscope.register_provider("v", provider)
        policy = llmscope.RoutePolicy(9, 0, False, {{"cheap": {sample.model!r}}}, "v")
        llmscope.register_route("/v", policy)
        asyncio.run(main())
        llmscope.shutdown_otel()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, cwd=root,
        env={
            **os.environ, "PYTHONPATH": str(root),
            "OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none",
        },
    )  # fmt: skip
    return done.stdout.count('"parent_id"')


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_the_sdks_own_spans_do_not_double_ours(vendor: str, httpserver: HTTPServer, tmp_path: Path) -> None:
    assert spans_of_two_calls(vendor, httpserver, tmp_path) == 2
    assert len(httpserver.log) == 2
    assert not any("traceparent" in request.headers for request, _ in httpserver.log)


def test_twin_left_to_itself_the_anthropic_sdk_would_double_them(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    itself = (
        "llmscope.AnthropicProvider._new_client = lambda self, sdk, **options: sdk.AsyncAnthropic(**options)"
    )
    assert spans_of_two_calls("anthropic", httpserver, tmp_path, prelude=itself) > 2
    assert any("traceparent" in request.headers for request, _ in httpserver.log)
