"""Setting up the OpenTelemetry SDK for an application that has none of its own set-up.

Read from the environment, by the names and values that OpenTelemetry specifies:

    OTEL_SDK_DISABLED             true: nothing is set up
    OTEL_TRACES_EXPORTER          otlp (default), console or none, or several separated by commas
    OTEL_METRICS_EXPORTER         otlp (default), prometheus, console or none, or several
    OTEL_EXPORTER_OTLP_*          where OTLP over HTTP goes; http://localhost:4318 without any
    OTEL_EXPORTER_PROMETHEUS_PORT the port of /metrics (9464); it is served on 127.0.0.1 only
    OTEL_METRIC_EXPORT_INTERVAL   milliseconds between exports of metrics (30000)
    OTEL_SERVICE_NAME             llmscope; OTEL_RESOURCE_ATTRIBUTES beats the two below
    OTEL_SERVICE_VERSION          0.1.0
    OTEL_DEPLOYMENT_ENVIRONMENT   development

What does not belong here: what is recorded (`instrumentation`).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmscope.errors import ConfigurationError
from llmscope.gateway import instrumentation

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger("llmscope")

DEFAULT_METRIC_EXPORT_INTERVAL_MS = 30_000
DEFAULT_PROMETHEUS_PORT = 9464
_LOOPBACK = "127.0.0.1"
_TRACES_VARIABLE, _METRICS_VARIABLE = "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"
_EXPORTERS = {
    _TRACES_VARIABLE: frozenset({"otlp", "console", "none"}),
    _METRICS_VARIABLE: frozenset({"otlp", "prometheus", "console", "none"}),
}

_lock = threading.Lock()


@dataclass
class _Running:
    """What is set up, and how each part of it is stopped, the last started first."""

    port: int | None = None
    stops: list[Callable[[], None]] = field(default_factory=list)

    def stop(self) -> None:
        for stop in reversed(self.stops):
            stop()


_running: list[_Running] = []
# Providers of ours that are, or were, the process's global ones: OpenTelemetry lets nobody replace them.
_made_global: list[Any] = []


def setup_otel() -> None:
    """Make tracer and meter providers and record with them; a second call does nothing.

    They become the process's global ones. Where the application has set up its own, for spans or for
    metrics, that stays and is recorded with.

    Raises:
        ConfigurationError: the SDK is not installed, a variable says what cannot be, or the port of
            /metrics is taken.
    """
    with _lock:
        if _running:
            return
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            logger.info("OpenTelemetry stays off: OTEL_SDK_DISABLED is true")
            return
        running = _Running()
        try:
            _set_up(running)
        except ImportError as exc:
            running.stop()
            raise ConfigurationError(
                "the OpenTelemetry SDK is not installed: pip install 'llm-governance[otel]'"
            ) from exc
        except ConfigurationError:
            running.stop()
            raise
        _running.append(running)


def shutdown_otel() -> None:
    """Export what is still buffered and stop; does nothing if nothing was set up."""
    with _lock:
        for running in _running:
            instrumentation.use_providers(None, None)
            running.stop()
        _running.clear()


def prometheus_port() -> int | None:
    """The port on 127.0.0.1 that serves /metrics; None when none does."""
    return _running[0].port if _running else None


def _set_up(running: _Running) -> None:
    from opentelemetry import metrics, trace  # noqa: PLC0415  the SDK takes its time to import
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
    traces_itself = _is_the_applications(tracers, TracerProvider)
    measures_itself = _is_the_applications(meters, MeterProvider)
    if not traces_itself:
        tracers = TracerProvider(resource=_resource())
        running.stops.append(tracers.shutdown)
        _add_span_exporters(tracers)
    if not measures_itself:
        meters = MeterProvider(resource=_resource(), metric_readers=_metric_readers(running))
        running.stops.append(meters.shutdown)
    # From here on nothing can fail. What is global stays so: after a shutdown the next providers are
    # recorded with all the same, by `use_providers`.
    if not traces_itself and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(tracers)
        _made_global.append(tracers)
    if not measures_itself and not isinstance(metrics.get_meter_provider(), MeterProvider):
        metrics.set_meter_provider(meters)
        _made_global.append(meters)
    instrumentation.use_providers(tracers, meters)


def _is_the_applications(provider: Any, kind: type) -> bool:
    return isinstance(provider, kind) and not any(provider is ours for ours in _made_global)


def _resource() -> Resource:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415

    environment = os.environ.get("OTEL_DEPLOYMENT_ENVIRONMENT") or "development"
    defaults = Resource.create(
        {
            "service.name": "llmscope",
            "service.version": os.environ.get("OTEL_SERVICE_VERSION") or "0.1.0",
            "deployment.environment": environment,  # renamed in semantic conventions v1.27.0
            "deployment.environment.name": environment,
        }
    )
    return defaults.merge(OTELResourceDetector().detect())


def _add_span_exporters(tracers: TracerProvider) -> None:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter  # noqa: PLC0415

    for name in _exporters(_TRACES_VARIABLE):
        if name == "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
                OTLPSpanExporter,
            )

            tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        else:
            tracers.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))


def _metric_readers(running: _Running) -> list[MetricReader]:
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415
        ConsoleMetricExporter,
        PeriodicExportingMetricReader,
    )

    interval_ms = _number("OTEL_METRIC_EXPORT_INTERVAL", DEFAULT_METRIC_EXPORT_INTERVAL_MS, 1, "milliseconds")
    readers: list[MetricReader] = []
    for name in _exporters(_METRICS_VARIABLE):
        if name == "prometheus":
            readers.append(_serve_prometheus(running))
            continue
        if name == "otlp":
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
                OTLPMetricExporter,
            )

            exporter: Any = OTLPMetricExporter()
        else:
            exporter = ConsoleMetricExporter()
        readers.append(PeriodicExportingMetricReader(exporter, export_interval_millis=interval_ms))
    return readers


def _serve_prometheus(running: _Running) -> MetricReader:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415

    port = _number("OTEL_EXPORTER_PROMETHEUS_PORT", DEFAULT_PROMETHEUS_PORT, 0, "a port")
    registry = CollectorRegistry()
    reader: MetricReader = PrometheusMetricReader(registry=registry)
    try:
        server, thread = start_http_server(port, _LOOPBACK, registry)
    except (OSError, OverflowError) as exc:
        raise ConfigurationError(
            f"/metrics cannot be served on {_LOOPBACK}:{port}: {exc}. "
            "Choose another OTEL_EXPORTER_PROMETHEUS_PORT."
        ) from exc

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    running.port = server.server_address[1]
    running.stops.append(stop)
    return reader


def _exporters(variable: str) -> list[str]:
    """The exporters that a variable names, each once."""
    names = [name.strip().lower() for name in (os.environ.get(variable) or "otlp").split(",")]
    for name in names:
        if name not in _EXPORTERS[variable]:
            raise ConfigurationError(
                f"{variable} names {name!r}; there are {', '.join(sorted(_EXPORTERS[variable]))}"
            )
    return [name for name in dict.fromkeys(names) if name != "none"]


def _number(variable: str, default: int, least: int, what: str) -> int:
    given = os.environ.get(variable) or str(default)
    if not (given.isascii() and given.isdecimal()) or int(given) < least:
        raise ConfigurationError(f"{variable} is {given!r}; give {what}, a whole number of at least {least}")
    return int(given)
