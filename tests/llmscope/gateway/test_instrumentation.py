"""Spans and metrics as a real SDK receives them, and nothing at all where there is none."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision
from opentelemetry.trace import SpanKind, StatusCode

import llmscope
from llmscope import LLMRequestContext, ProviderResponse, RoutePolicy
from llmscope.gateway import instrumentation, metric_instruments, semconv
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

    def metrics(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[Any]:
        return self.metrics().get(name, [])


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder = Recorder()
    monkeypatch.delenv(semconv.OPT_IN_VARIABLE, raising=False)
    monkeypatch.setattr(instrumentation, "_instruments", [])
    instrumentation.use_providers(recorder.tracers, recorder.meters)
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


class SelfTracing(ScriptedProvider):
    """Stands for an instrumented SDK: it makes a span of its own unless the context asks it not to."""

    async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        if not context.get_value("suppress_instrumentation"):
            with self.tracers.get_tracer("vendor").start_as_current_span("vendor"):
                return await super().complete(prompt, model, max_output_tokens)
        return await super().complete(prompt, model, max_output_tokens)

    tracers: TracerProvider


@pytest.mark.parametrize("is_suppressed", [True, False], ids=["claim", "twin"])
async def test_an_sdk_that_traces_itself_does_not_double_the_span(
    is_suppressed: bool, recorder: Recorder, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = route()
    provider = SelfTracing([GOOD])
    provider.tracers = recorder.tracers
    llmscope.register_provider("acme-ai", provider)
    if not is_suppressed:
        monkeypatch.setattr(instrumentation, "vendor_spans_suppressed", contextlib.nullcontext)
    await llmscope.call_llm("Hi", "cheap", name)
    spans = [span.name for span in recorder.exporter.get_finished_spans()]
    assert spans == (["chat gpt-4o-mini"] if is_suppressed else ["vendor", "chat gpt-4o-mini"])


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


OLD = {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
LATEST = {
    "gen_ai.client.inference.duration", "gen_ai.client.inference.operation.input_tokens",
    "gen_ai.client.inference.operation.output_tokens", "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens",
}  # fmt: skip
OURS = {"llm_gateway.estimated_cost_usd", "llm_gateway.requests"}


@pytest.mark.parametrize(
    ("opted_in", "names", "metrics"),
    [
        (None, {"gen_ai.system"}, OLD),
        ("http", {"gen_ai.system"}, OLD),
        ("http, gen_ai_latest_experimental", {"gen_ai.provider.name"}, LATEST),
        ("gen_ai_latest_experimental,gen_ai_latest_experimental/dup", {"gen_ai.provider.name"}, LATEST),
        ("gen_ai_latest_experimental/dup", {"gen_ai.system", "gen_ai.provider.name"}, OLD | LATEST),
    ],
)
async def test_the_opt_in_renames_on_spans_and_on_every_metric(
    opted_in: str | None, names: set[str], metrics: set[str],
    recorder: Recorder, log: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if opted_in is not None:
        monkeypatch.setenv(semconv.OPT_IN_VARIABLE, opted_in)
    await llmscope.call_llm("Hi", "cheap", route(GOOD))
    both = {"gen_ai.system", "gen_ai.provider.name"}
    assert both & set(recorder.span().attributes) == names
    recorded = recorder.metrics()
    assert set(recorded) == metrics | OURS
    for name, points in recorded.items():
        if name != "llm_gateway.requests":  # of whatever provider
            assert all(both & set(point.attributes) == names for point in points)


async def test_twin_a_counter_outside_the_table_keeps_the_old_name(
    recorder: Recorder, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(semconv.OPT_IN_VARIABLE, "gen_ai_latest_experimental")
    monkeypatch.setattr(metric_instruments, "resolve_attrs", lambda attributes: attributes)
    await llmscope.call_llm("Hi", "cheap", route(GOOD))
    (cost,) = recorder.points("llm_gateway.estimated_cost_usd")
    assert "gen_ai.system" in cost.attributes


def test_under_the_latest_names_cached_tokens_are_parts_never_added(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(semconv.OPT_IN_VARIABLE, "gen_ai_latest_experimental/dup")
    record(tokens_in=1000, tokens_out=7, cache_read_tokens=400, cache_write_tokens=500)
    usage = "gen_ai.client.inference.usage."
    counted = {name.removeprefix(usage): points[0].value for name, points in recorder.metrics().items()
               if name.startswith(usage)}  # fmt: skip
    assert counted == {
        "input_tokens": 1000, "output_tokens": 7, "cache_read.input_tokens": 400, "cache_write.input_tokens": 500
    }  # fmt: skip
    with instrumentation.call_span("m") as span:
        span.set({semconv.ATTR_GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: 5})
    assert {"gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"} == set(
        recorder.span().attributes
    )


def record(**figures: Any) -> None:
    instrumentation.record_request(
        **{
            "provider": "p", "model": "m", "route": "/r", "model_tier": "cheap", "status": "success",
            "latency_ms": 1500.0, "tokens_in": 1, "tokens_out": 1, "cost_usd": 0.5, "error_type": None,
            **figures,
        }
    )  # fmt: skip


def test_whatever_callers_name_there_are_few_series(recorder: Recorder) -> None:
    for number in range(1000):
        record(
            model=f"m{number}", route=f"/r/{number}", provider=f"p{number}", model_tier=f"t{number}",
            status="error", error_type=f"e{number}",
        )  # fmt: skip
    for name, points in recorder.metrics().items():
        assert len(points) <= 2 * (metric_instruments.MOST_VALUES + 1), name
    requests = recorder.points("llm_gateway.requests")
    assert sum(point.value for point in requests) == 1000
    assert {point.value for point in requests if point.attributes["llm_gateway.route"] == "other"} == {900}
    record(route="/r/0", model_tier="t0", status="error")
    assert {p.attributes["llm_gateway.route"]: p.value for p in recorder.points("llm_gateway.requests")}[
        "/r/0"
    ] == 2


def test_twin_labels_without_a_bound_make_series_without_end(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_instruments.BoundedLabel, "of", lambda self, value: value)
    for number in range(300):
        record(route=f"/r/{number}")
    assert len(recorder.points("llm_gateway.requests")) == 300


def test_a_hit_is_a_request_but_no_operation(recorder: Recorder) -> None:
    record(status="cached", tokens_in=0, tokens_out=0, cost_usd=0.0)
    assert set(recorder.metrics()) == {"llm_gateway.requests"}


def test_an_unknown_cost_adds_nothing(recorder: Recorder) -> None:
    record(cost_usd=None)
    assert recorder.points("llm_gateway.estimated_cost_usd") == []
    assert len(recorder.points("gen_ai.client.operation.duration")) == 1


async def test_a_call_whose_line_cannot_be_written_is_counted_once(
    recorder: Recorder, tmp_path: Path
) -> None:
    folder = tmp_path / "a-folder"
    folder.mkdir()
    await llmscope.call_llm("Hi", "cheap", route(GOOD), telemetry_path=folder)
    with pytest.raises(ScriptedError):
        await llmscope.call_llm("Hi", "cheap", route(ScriptedError("timeout")), telemetry_path=folder)
    assert {p.attributes["status"]: p.value for p in recorder.points("llm_gateway.requests")} == {
        "success": 1, "error": 1,
    }  # fmt: skip


def test_around_a_request_other_instrumentations_are_told_to_keep_still(recorder: Recorder) -> None:
    def told() -> set[str]:
        return {key for key in instrumentation._SUPPRESSING_KEYS if context.get_value(key)}

    with instrumentation.call_span("m"), instrumentation.vendor_spans_suppressed():
        assert told() == {"suppress_instrumentation", "suppress_language_model_instrumentation"}
        assert trace.get_current_span().get_span_context().is_valid
    assert told() == set()


def test_a_sampler_sees_what_is_known_when_the_span_begins(recorder: Recorder) -> None:
    seen: list[Any] = []

    class Watching(ALWAYS_ON.__class__):  # type: ignore[misc]
        def should_sample(self, *args: Any, **kwargs: Any) -> Any:
            seen.append((args, kwargs))
            return super().should_sample(*args, **kwargs)

    instrumentation.use_providers(
        TracerProvider(sampler=Watching(Decision.RECORD_AND_SAMPLE)), recorder.meters
    )
    with instrumentation.call_span("m", {semconv.ATTR_GEN_AI_SYSTEM: "acme-ai", "none": None}):
        pass
    assert "acme-ai" in str(seen)
    assert "'none'" not in str(seen)


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
