"""Setting up the OpenTelemetry SDK for an application that has none of its own set-up.

Read from the environment: `OTEL_SDK_DISABLED`, `OTEL_SERVICE_NAME` (llmscope), `OTEL_SERVICE_VERSION`
(0.1.0), `OTEL_DEPLOYMENT_ENVIRONMENT` (development), `OTEL_METRIC_EXPORT_INTERVAL` (30000 ms), and
what the OTLP/HTTP exporters read themselves. Without an endpoint, spans and metrics go to the console.
What does not belong here: what is recorded (`instrumentation`).
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from llmscope.errors import ConfigurationError

logger = logging.getLogger("llmscope")

DEFAULT_METRIC_EXPORT_INTERVAL_MS = 30_000

_lock = threading.Lock()
_providers: list[Any] = []


def setup_otel() -> None:
    """Make the global tracer and meter providers; a second call does nothing.

    Raises:
        ConfigurationError: the SDK is not installed, or `OTEL_METRIC_EXPORT_INTERVAL` is no number.
    """
    with _lock:
        if _providers:
            return
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            logger.info("OpenTelemetry stays off: OTEL_SDK_DISABLED is true")
            return
        _providers.extend(_build_providers())


def shutdown_otel() -> None:
    """Export what is still buffered and stop; does nothing if nothing was set up."""
    with _lock:
        for provider in _providers:
            provider.shutdown()
        _providers.clear()


def _build_providers() -> list[Any]:
    try:
        from opentelemetry import metrics, trace  # noqa: PLC0415  the SDK takes its time to import
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        span_exporter, metric_exporter = _exporters()
    except ImportError as exc:
        raise ConfigurationError(
            "the OpenTelemetry SDK is not installed: pip install 'llm-governance[otel]'"
        ) from exc
    interval = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL") or str(DEFAULT_METRIC_EXPORT_INTERVAL_MS)
    if not interval.isdecimal() or int(interval) == 0:
        raise ConfigurationError(
            f"OTEL_METRIC_EXPORT_INTERVAL is {interval!r}; give a whole number of milliseconds"
        )
    resource = Resource.create(
        {
            "service.name": os.environ.get("OTEL_SERVICE_NAME") or "llmscope",
            "service.version": os.environ.get("OTEL_SERVICE_VERSION") or "0.1.0",
            "deployment.environment": os.environ.get("OTEL_DEPLOYMENT_ENVIRONMENT") or "development",
        }
    )
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(span_exporter))
    reader = PeriodicExportingMetricReader(metric_exporter, export_interval_millis=int(interval))
    meters = MeterProvider(resource=resource, metric_readers=[reader])
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    return [tracers, meters]


def _exporters() -> tuple[Any, Any]:
    if any(os.environ.get(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT") for kind in ("", "TRACES_", "METRICS_")):
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter,
        )
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        return OTLPSpanExporter(), OTLPMetricExporter()
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415

    return ConsoleSpanExporter(), ConsoleMetricExporter()
