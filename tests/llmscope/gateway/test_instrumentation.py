"""Spans and metrics as a real SDK receives them, and nothing at all where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import llmscope
from llmscope import LLMRequestContext, ProviderResponse, RoutePolicy
from llmscope.gateway import instrumentation, semconv
from tests.llmscope.scripted import ScriptedError, ScriptedProvider, events

ROOT = Path(llmscope.__file__).parent.parent


class Recorder:
    """A real SDK with exporters into memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader])

    def span(self) -> Any:
        (span,) = self.exporter.get_finished_spans()
        return span

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder = Recorder()
    ours = instrumentation.Instruments.create(
        recorder.tracers.get_tracer("llmscope"), recorder.meters.get_meter("llmscope")
    )
    monkeypatch.setattr(instrumentation, "_instruments", [ours])
    yield recorder
    recorder.tracers.shutdown()
    recorder.meters.shutdown()


def route(*steps: Any) -> str:
    llmscope.register_provider("acme-ai", ScriptedProvider(steps, name="acme-ai"))
    llmscope.register_route("/tested", RoutePolicy(64, 0, False, {"cheap": "gpt-4o-mini"}, "acme-ai"))
    return "/tested"


GOOD = ProviderResponse("a secret answer", 100, 50, "stop")
CONTEXT = LLMRequestContext(tenant_id="t", caller_id="c", use_case="u", feature_id="f")


async def test_a_call_is_one_client_span_that_names_its_provider(recorder: Recorder, log: Path) -> None:
    result = await llmscope.call_llm("a secret prompt", "cheap", route(GOOD), context=CONTEXT)
    span = recorder.span()
    assert (span.name, span.kind, span.status.status_code) == (
        "chat gpt-4o-mini", SpanKind.CLIENT, StatusCode.UNSET,
    )  # fmt: skip
    assert span.attributes == {
        "gen_ai.system": "acme-ai", "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.max_tokens": 64, "gen_ai.response.model": "gpt-4o-mini",
        "gen_ai.response.finish_reasons": ("stop",), "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50, "llm_gateway.route": "/tested", "llm_gateway.model_tier": "cheap",
        "llm_gateway.request_id": result.request_id, "llm_gateway.tenant_id": "t",
        "llm_gateway.caller_id": "c", "llm_gateway.use_case": "u", "llm_gateway.audit.feature_id": "f",
        "llm_gateway.retry_attempts_allowed": 0, "llm_gateway.cache_enabled": False,
        "llm_gateway.provider": "acme-ai", "llm_gateway.estimated_cost_usd": 0.000045,
        "llm_gateway.cache_hit": False,
    }  # fmt: skip
    (event,) = events(log)
    assert event["trace_id"] == f"{span.context.trace_id:032x}"
    assert event["span_id"] == f"{span.context.span_id:016x}"
    assert "secret" not in json.dumps(events(log)) + span.to_json()


async def test_a_failure_is_one_exception_event_without_the_vendors_words(
    recorder: Recorder, log: Path
) -> None:
    error = ScriptedError("timeout")
    error.args = ("your prompt 'a secret prompt' timed out",)
    with pytest.raises(ScriptedError):
        await llmscope.call_llm("a secret prompt", "cheap", route(error))
    span = recorder.span()
    assert span.status.status_code is StatusCode.ERROR
    assert [(event.name, dict(event.attributes)) for event in span.events] == [
        ("exception", {"exception.type": "ScriptedError"})
    ]
    assert (span.attributes["error.type"], span.attributes["llm_gateway.error_category"]) == (
        "ScriptedError", "timeout",
    )  # fmt: skip
    assert "secret" not in span.to_json() + log.read_text()


async def test_metrics_count_each_call_once_and_keep_their_cardinality(recorder: Recorder, log: Path) -> None:
    name = route(GOOD)
    for _ in range(3):
        await llmscope.call_llm("Hi", "cheap", name)
    with pytest.raises(ScriptedError):
        await llmscope.call_llm("Hi", "cheap", route(ScriptedError("timeout")))
    tokens = {p.attributes["gen_ai.token.type"]: p for p in recorder.points("gen_ai.client.token.usage")}
    assert {kind: (point.sum, point.count) for kind, point in tokens.items()} == {
        "input": (300, 3), "output": (150, 3),
    }  # fmt: skip
    assert set(tokens["input"].attributes) == {
        "gen_ai.system", "gen_ai.operation.name", "gen_ai.request.model", "llm_gateway.route",
        "gen_ai.token.type",
    }  # fmt: skip
    requests = {p.attributes["status"]: p.value for p in recorder.points("llm_gateway.requests")}
    assert requests == {"success": 3, "error": 1}
    (cost,) = recorder.points("llm_gateway.estimated_cost_usd")
    assert (cost.value, cost.attributes["llm_gateway.model_tier"]) == (pytest.approx(0.000135), "cheap")
    durations = recorder.points("gen_ai.client.operation.duration")
    assert {(p.attributes.get("error.type"), p.count) for p in durations} == {(None, 3), ("timeout", 1)}
    assert durations[0].explicit_bounds == semconv.DURATION_BUCKETS_SECONDS


@pytest.mark.parametrize(
    ("opted_in", "names"),
    [
        (None, {"gen_ai.system"}),
        ("http", {"gen_ai.system"}),
        ("http, gen_ai_latest_experimental", {"gen_ai.provider.name"}),
        ("gen_ai_latest_experimental/dup", {"gen_ai.system", "gen_ai.provider.name"}),
    ],
)
async def test_the_opt_in_renames_on_spans_and_on_every_metric(
    opted_in: str | None, names: set[str], recorder: Recorder, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if opted_in is None:
        monkeypatch.delenv(semconv.OPT_IN_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(semconv.OPT_IN_VARIABLE, opted_in)
    await llmscope.call_llm("Hi", "cheap", route(GOOD))
    both = {"gen_ai.system", "gen_ai.provider.name"}
    assert both & set(recorder.span().attributes) == names
    for metric in (
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
        "llm_gateway.estimated_cost_usd",
    ):
        for point in recorder.points(metric):
            assert both & set(point.attributes) == names


def test_resolving_never_changes_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, semconv.AttrValue] = {"gen_ai.system": "openai", "other": 1}
    monkeypatch.delenv(semconv.OPT_IN_VARIABLE, raising=False)
    assert semconv.resolve_attrs(given) is given
    monkeypatch.setenv(semconv.OPT_IN_VARIABLE, "gen_ai_latest_experimental")
    assert semconv.resolve_attrs(given) == {"gen_ai.provider.name": "openai", "other": 1}
    assert given == {"gen_ai.system": "openai", "other": 1}
    monkeypatch.setattr(semconv, "_PENDING_RENAMES", {})
    assert semconv.resolve_attrs(given) is given


def run(script: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
    )  # fmt: skip
    return done.stdout


CALL = """
    import asyncio, sys
    import llmscope
    from tests.llmscope.scripted import ScriptedProvider
    llmscope.register_provider("s", ScriptedProvider([llmscope.ProviderResponse("text", 1, 1)]))
    llmscope.register_route("/s", llmscope.RoutePolicy(9, 0, False, {"cheap": "gpt-4o-mini"}, "s"))
    def call(): return asyncio.run(llmscope.call_llm("Hi", "cheap", "/s")).text
"""


def test_without_opentelemetry_a_call_works_all_the_same(tmp_path: Path) -> None:
    script = "import sys; sys.modules['opentelemetry'] = None\n" + textwrap.dedent(CALL) + "print(call())"
    assert run(script, TELEMETRY_PATH=str(tmp_path / "t.jsonl")).strip() == "text"
    assert len(events(tmp_path / "t.jsonl")) == 1


def test_a_call_alone_loads_the_api_but_no_sdk(tmp_path: Path) -> None:
    script = textwrap.dedent(CALL) + (
        "call(); print('opentelemetry.trace' in sys.modules, 'opentelemetry.sdk' in sys.modules)"
    )
    assert run(script, TELEMETRY_PATH=str(tmp_path / "t.jsonl")).strip() == "True False"


def test_setup_exports_to_the_console_and_shutdown_flushes(tmp_path: Path) -> None:
    script = textwrap.dedent(CALL) + (
        "call(); llmscope.setup_otel(); llmscope.setup_otel(); call(); llmscope.shutdown_otel(); "
        "llmscope.shutdown_otel()"
    )
    out = run(
        script, TELEMETRY_PATH=str(tmp_path / "t.jsonl"), OTEL_SERVICE_NAME="shop",
        OTEL_EXPORTER_OTLP_ENDPOINT="",
    )  # fmt: skip
    assert out.count('"name": "chat gpt-4o-mini"') == 1
    assert '"service.name": "shop"' in out
    assert "llm_gateway.requests" in out


def test_the_kill_switch_and_a_bad_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "soon")
    with pytest.raises(llmscope.ConfigurationError, match="OTEL_METRIC_EXPORT_INTERVAL"):
        llmscope.setup_otel()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    llmscope.setup_otel()
    llmscope.shutdown_otel()
