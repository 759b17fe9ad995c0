"""Setting up the SDK: what a real receiver, a scrape and a console get, and settings that are refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.parser import text_string_to_metric_families

import llmscope
from llmscope.gateway import otel_setup
from tests.llmscope.gateway.otlp_receiver import attributes_of, otlp_receiver

ROOT = Path(llmscope.__file__).parent.parent
CALLS = """
    import asyncio, sys
    import llmscope
    from llmscope.gateway import otel_setup
    from tests.llmscope.scripted import ScriptedError, ScriptedProvider
    answer = llmscope.ProviderResponse("a secret answer", 1000, 200, "stop")
    llmscope.register_provider("s", ScriptedProvider([answer, ScriptedError("timeout"), answer], name="acme-ai"))
    llmscope.register_route("/s", llmscope.RoutePolicy(9, 0, False, {"cheap": "gpt-4o-mini"}, "s"))
    def call():
        try:
            asyncio.run(llmscope.call_llm("a secret prompt", "cheap", "/s"))
        except ScriptedError:
            pass
"""


def run(
    script: str, tmp_path: Path, stdin: str | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CALLS) + script], capture_output=True, text=True, check=True,
        cwd=ROOT, input=stdin, timeout=60,
        env={**inherited, "PYTHONPATH": str(ROOT), "TELEMETRY_PATH": str(tmp_path / "t.jsonl"), **environ},
    )  # fmt: skip


def test_a_receiver_of_otlp_gets_spans_and_metrics(tmp_path: Path) -> None:
    with otlp_receiver() as receiver:
        run(
            "llmscope.setup_otel(); llmscope.setup_otel(); call(); call(); llmscope.shutdown_otel()",
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_SEMCONV_STABILITY_OPT_IN="gen_ai_latest_experimental/dup",
            OTEL_RESOURCE_ATTRIBUTES="service.name=shop,team=a",
        )
    good, failed = receiver.spans
    assert (good.name, good.kind) == ("chat gpt-4o-mini", Span.SPAN_KIND_CLIENT)
    told = attributes_of(good)
    assert (told["gen_ai.system"], told["gen_ai.provider.name"]) == ("acme-ai", "acme-ai")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (1000, 200)
    assert told["llm_gateway.estimated_cost_usd"] == 0.00027
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert [event.name for event in failed.events] == ["exception"]
    assert attributes_of(failed)["error.type"] == "ScriptedError"
    assert "secret" not in str(receiver.spans)
    [resource] = receiver.resources
    assert (resource["service.name"], resource["team"]) == ("shop", "a")
    assert resource["deployment.environment.name"] == "development"

    def points(name: str) -> list[tuple[dict[str, object], float]]:
        return [
            (attributes_of(point), getattr(point, "sum", None) or point.as_double or point.as_int)
            for point in receiver.metrics[name]
        ]

    [(cost_told, cost)] = points("llm_gateway.estimated_cost_usd")
    assert cost == pytest.approx(0.00027)
    assert (cost_told["gen_ai.system"], cost_told["gen_ai.provider.name"]) == ("acme-ai", "acme-ai")
    assert {a["gen_ai.token.type"]: total for a, total in points("gen_ai.client.token.usage")} == {
        "input": 1000, "output": 200,
    }  # fmt: skip
    assert [total for _, total in points("gen_ai.client.inference.usage.input_tokens")] == [1000]
    assert {a["status"]: total for a, total in points("llm_gateway.requests")} == {"success": 1, "error": 1}
    durations = receiver.metrics["gen_ai.client.operation.duration"]
    assert {attributes_of(point).get("error.type") for point in durations} == {None, "timeout"}
    assert list(durations[0].explicit_bounds) == [0.01 * 2**power for power in range(14)]


def test_a_scrape_of_prometheus_gets_the_same_instruments(tmp_path: Path) -> None:
    script = (
        "llmscope.setup_otel(); call(); call(); "
        "import urllib.request; "
        "url = f'http://127.0.0.1:{otel_setup.prometheus_port()}/metrics'; "
        "print(urllib.request.urlopen(url, timeout=10).read().decode()); "
        "llmscope.shutdown_otel(); print('# stopped', otel_setup.prometheus_port())"
    )
    done = run(
        script, tmp_path, OTEL_METRICS_EXPORTER="prometheus", OTEL_TRACES_EXPORTER="none",
        OTEL_EXPORTER_PROMETHEUS_PORT="0",
    )  # fmt: skip
    families = {family.name: family for family in text_string_to_metric_families(done.stdout)}
    requests = {s.labels["status"]: s.value for s in families["llm_gateway_requests"].samples}
    assert requests == {"success": 1, "error": 1}
    [cost] = families["llm_gateway_estimated_cost_usd_USD"].samples
    assert cost.value == pytest.approx(0.00027)
    assert (cost.labels["gen_ai_system"], cost.labels["llm_gateway_route"]) == ("acme-ai", "/s")
    buckets = {
        float(sample.labels["le"])
        for sample in families["gen_ai_client_operation_duration_seconds"].samples
        if sample.name.endswith("_bucket")
    }
    assert {0.01, 81.92} <= buckets
    assert done.stdout.splitlines()[-1] == "# stopped None"
    assert not [label for family in families.values() for sample in family.samples
                for label in sample.labels if "request_id" in label or "tenant" in label]  # fmt: skip


def test_prometheus_listens_on_loopback_only_and_stops_listening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "0.0.0.0")
    running = otel_setup._Running()
    reader = otel_setup._serve_prometheus(running)
    url = f"http://127.0.0.1:{running.port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.status == 200
    listening = Path("/proc/net/tcp")
    if listening.exists():  # Linux: the kernel's own word for it
        port = f":{running.port:04X} "
        addresses = [line.split()[1] for line in listening.read_text().splitlines() if port in line]
        assert addresses
        assert all(address.startswith("0100007F") for address in addresses)
    running.stop()
    reader.shutdown()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=10)


def test_the_console_is_written_to_when_asked_and_shutdown_flushes(tmp_path: Path) -> None:
    done = run(
        "call(); llmscope.setup_otel(); call(); llmscope.shutdown_otel(); llmscope.shutdown_otel()",
        tmp_path,
        OTEL_SERVICE_NAME="shop", OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="console",
    )  # fmt: skip
    assert done.stdout.count('"name": "chat gpt-4o-mini"') == 1
    assert '"service.name": "shop"' in done.stdout
    assert "llm_gateway.requests" in done.stdout


def test_nothing_is_written_to_the_console_unasked(tmp_path: Path) -> None:
    with otlp_receiver() as receiver:
        done = run(
            "llmscope.setup_otel(); call(); llmscope.shutdown_otel()",
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
        )
    assert (done.stdout, done.stderr) == ("", "")
    assert len(receiver.spans) == 1


def test_set_up_again_after_a_shutdown_it_exports_again(tmp_path: Path) -> None:
    with otlp_receiver() as receiver:
        done = run(
            "for _ in range(2):\n    llmscope.setup_otel(); call(); llmscope.shutdown_otel()",
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
        )
    assert (done.stderr, len(receiver.spans)) == ("", 2)


def test_an_applications_own_providers_are_recorded_with(tmp_path: Path) -> None:
    script = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
theirs = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(theirs))
trace.set_tracer_provider(provider)
for _ in range(2):
    llmscope.setup_otel(); call(); llmscope.shutdown_otel()
print(len(theirs.get_finished_spans()))
"""
    with otlp_receiver() as receiver:
        done = run(script, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
    assert (done.stdout, done.stderr) == ("2\n", "")
    assert receiver.spans == []
    assert "llm_gateway.requests" in receiver.metrics


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_METRIC_EXPORT_INTERVAL", "soon"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_TRACES_EXPORTER", "prometheus"),
        ("OTEL_METRICS_EXPORTER", "otlp,zipkin"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_leave_nothing_behind(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv(variable, value)
    with pytest.raises(llmscope.ConfigurationError, match=variable):
        llmscope.setup_otel()
    assert otel_setup._running == []


def test_a_port_that_is_taken_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    first = otel_setup._Running()
    reader = otel_setup._serve_prometheus(first)
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(first.port))
    with pytest.raises(llmscope.ConfigurationError, match=f"127.0.0.1:{first.port}"):
        otel_setup._serve_prometheus(otel_setup._Running())
    first.stop()
    reader.shutdown()


def test_the_kill_switch_sets_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "not even looked at")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    llmscope.setup_otel()
    assert otel_setup._running == []
    llmscope.shutdown_otel()
