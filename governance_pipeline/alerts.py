"""Alerts: what somebody should know about, said once, to everybody who asked.

Everything goes through one door: `raise_alerts` appends what is new to alerts.jsonl as CloudEvents 1.0
and hands each to the sinks of alerts.yaml. An alert's id is a function of what it is about, so that a
second sensor, a second run or a rebuild says nothing twice. What the sinks took is a log of its own beside
it; a sink that failed is tried again at the next call, and never keeps the others waiting.

What does not belong here: when something is an anomaly (`anomalies`), and when to look (`sensors`).
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from governance_pipeline.errors import BadInput
from governance_pipeline.wording import counted
from llmscope.clock import Clock, SystemClock
from llmscope.event_log import AdmissionLock, LogWriter, iter_lines, open_log, rotated_siblings
from llmscope.strict_yaml import read_strict_yaml, validated
from llmscope.timestamps import format_instant, parse_micros, to_micros

SPEC_VERSION = "1.0"
SOURCE = "/llm-governance/pipeline"
AlertKind = Literal["cost_anomaly", "budget_alert", "check_failed", "evaluation_low"]
_TYPE_PREFIX = "llm_governance."
# A sink that was down for longer, or was configured only now, is not flooded with the past.
RETRY_HORIZON = timedelta(hours=24)
_LOCK_TIMEOUT_SECONDS = 5.0

# A sink that is down costs its timeout this often per call, whatever waits for it.
_FAILURES_PER_CALL = 3
_MOST_SINKS_AT_ONCE = 32

_log = logging.getLogger(__name__)
_Line = TypeVar("_Line")


class Alert(msgspec.Struct, frozen=True):
    """One CloudEvent of alerts.jsonl.

    Attributes:
        id: hash of what the alert is about; equal ids are the same alert.
        source, specversion, type, subject: as CloudEvents 1.0 names them.
        time: when it happened, in the logs' own time.
        data: the numbers behind it and, in `message`, one sentence for people.
        recordedtime: when it was written (CloudEvents' extension of that name).
    """

    id: str
    type: str
    subject: str
    time: str
    data: dict[str, Any]
    recordedtime: str = ""
    source: str = SOURCE
    specversion: str = SPEC_VERSION
    datacontenttype: str = "application/json"

    @property
    def kind(self) -> str:
        """The type without its prefix: one of `AlertKind`."""
        return self.type.removeprefix(_TYPE_PREFIX)


class _Delivery(msgspec.Struct, frozen=True):
    id: str
    sink: str
    delivered_at: str


class Sink(BaseModel):
    """One entry of alerts.yaml: where alerts go.

    `url` is any address apprise knows (json://, slack://, mailto://, …); `url_env` names an environment
    variable that holds it, so that no secret need stand in the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    url: str | None = None
    url_env: str | None = None
    kinds: tuple[AlertKind, ...] = get_args(AlertKind)

    @model_validator(mode="after")
    def _one_address(self) -> Sink:
        if (self.url is None) == (self.url_env is None):
            raise ValueError(f"sink {self.name!r}: give exactly one of url and url_env")
        return self


class _SinksFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    sinks: tuple[Sink, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> _SinksFile:
        names = [sink.name for sink in self.sinks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sinks are named {', '.join(twice)}")
        return self


@dataclass(frozen=True, slots=True)
class Raised:
    """What one call of `raise_alerts` came to.

    Attributes:
        written: alerts that were new and now stand in the log.
        delivered: (alert id, sink name) pairs that a sink took.
        failed: pairs that a sink did not take; they are tried again at the next call.
    """

    written: tuple[Alert, ...] = ()
    delivered: tuple[tuple[str, str], ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


def make_alert(
    kind: AlertKind,
    *,
    about: Sequence[object],
    subject: str,
    time: str,
    message: str,
    data: Mapping[str, Any],
) -> Alert:
    """An alert whose id is the hash of `kind` and `about`: what makes it this alert and no other."""
    identity = msgspec.json.encode([kind, *[str(part) for part in about]])
    return Alert(
        id=hashlib.sha256(identity).hexdigest()[:32],
        type=_TYPE_PREFIX + kind,
        subject=subject,
        time=time,
        data={"message": message, **data},
    )


def load_sinks(path: Path | None, environ: Mapping[str, str] | None = None) -> tuple[Sink, ...]:
    """The sinks of alerts.yaml, each with its address; none without a file.

    Raises:
        BadInput: the file cannot be used as written, or a variable it names is not set.
    """
    if path is None:
        return ()
    environ = os.environ if environ is None else environ
    kind = "an alerts file is a mapping with `sinks:`"
    file = read_strict_yaml(path, kind=kind, refuse=BadInput, may_be_empty=True)
    parsed = validated(file, _SinksFile, refuse=BadInput)
    return tuple(_resolved(path, sink, environ) for sink in parsed.sinks)


def _resolved(path: Path, sink: Sink, environ: Mapping[str, str]) -> Sink:
    if sink.url_env is None:
        return sink
    url = environ.get(sink.url_env)
    if not url:
        raise BadInput(f"{path}: sink {sink.name!r}: the variable {sink.url_env} is not set")
    return sink.model_copy(update={"url": url, "url_env": None})


def read_alerts(alerts_path: Path) -> list[Alert]:
    """Every alert that was written, oldest first, rotated generations included; torn lines passed over."""
    found: dict[str, Alert] = {}
    for alert in _read_log(alerts_path, Alert):
        found.setdefault(alert.id, alert)
    return list(found.values())


def raise_alerts(
    alerts: Iterable[Alert],
    alerts_path: Path,
    *,
    sinks: Sequence[Sink] = (),
    clock: Clock | None = None,
    notify: Callable[[Sink, Alert], bool] | None = None,
) -> Raised:
    """Write what is new, then bring every recent alert to the sinks that have not taken it.

    Args:
        alerts: candidates; one whose id is in the log already is not written again.
        alerts_path: the log.
        sinks: see `load_sinks`.
        clock: for `recordedtime` and the retry horizon.
        notify: how a sink is reached; by default through apprise.

    Raises:
        TimeoutError: another process has held the alert log for 5 seconds.
        llmscope.errors.EventLogError: the log cannot be written.
    """
    clock = clock or SystemClock()
    written = _write_new(alerts, alerts_path, clock)
    if not sinks:
        return Raised(written)
    lock = AdmissionLock(alerts_path.with_name(alerts_path.name + ".delivery.lock"))
    if not lock.try_acquire():  # whoever holds it delivers; what it does not see yet waits for the next call
        return Raised(written)
    try:
        delivered, failed = _deliver(alerts_path, sinks, clock, notify or notify_by_apprise)
    finally:
        lock.release()
        lock.close()
    return Raised(written, delivered, failed)


def notify_by_apprise(sink: Sink, alert: Alert) -> bool:
    """Send one alert to one sink; False when the sink did not take it."""
    import apprise  # noqa: PLC0415  (half a second of imports that only a delivery needs)

    target = apprise.Apprise()
    if not target.add(sink.url or ""):
        _log.warning("alert sink %s: apprise does not know its address", sink.name)
        return False
    return bool(
        target.notify(
            title=f"{alert.kind.replace('_', ' ')}: {alert.subject}",
            body=str(alert.data.get("message", "")),
            notify_type=apprise.NotifyType.WARNING,
        )
    )


def _write_new(alerts: Iterable[Alert], alerts_path: Path, clock: Clock) -> tuple[Alert, ...]:
    candidates = list(alerts)
    if not candidates:
        return ()
    lock = AdmissionLock(alerts_path.with_name(alerts_path.name + ".lock"))
    if not lock.acquire(_LOCK_TIMEOUT_SECONDS):
        raise TimeoutError(f"{alerts_path}: its lock was taken for {_LOCK_TIMEOUT_SECONDS:g} s")
    writer = LogWriter(alerts_path)
    written = []
    try:
        known = {alert.id for alert in read_alerts(alerts_path)}
        for alert in candidates:
            if alert.id in known:
                continue
            known.add(alert.id)
            stamped = msgspec.structs.replace(alert, recordedtime=format_instant(clock.now()))
            writer.append(msgspec.json.encode(stamped))
            written.append(stamped)
    finally:
        writer.close()
        lock.release()
        lock.close()
    return tuple(written)


def _deliver(
    alerts_path: Path, sinks: Sequence[Sink], clock: Clock, notify: Callable[[Sink, Alert], bool]
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    ledger = alerts_path.with_name(alerts_path.stem + ".deliveries.jsonl")
    taken = {(delivery.id, delivery.sink) for delivery in _read_log(ledger, _Delivery)}
    now = clock.now()
    recent = [alert for alert in read_alerts(alerts_path) if _is_recent(alert, now)]
    writer = LogWriter(ledger)

    def deliver_to(sink: Sink) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        delivered: list[tuple[str, str]] = []
        failed: list[tuple[str, str]] = []
        for alert in recent:
            pair = (alert.id, sink.name)
            if alert.kind not in sink.kinds or pair in taken:
                continue
            if len(failed) < _FAILURES_PER_CALL and notify(sink, alert):
                writer.append(msgspec.json.encode(_Delivery(*pair, format_instant(clock.now()))))
                delivered.append(pair)
            else:
                failed.append(pair)
        if failed:
            _log.warning(
                "alert sink %s did not take %s; tried again later", sink.name, counted(len(failed), "alert")
            )
        return delivered, failed

    try:
        # One thread a sink: one that hangs until its timeout keeps nobody else waiting.
        with ThreadPoolExecutor(min(len(sinks), _MOST_SINKS_AT_ONCE)) as threads:
            results = list(threads.map(deliver_to, sinks))
    finally:
        writer.close()
    return (
        tuple(pair for delivered, _ in results for pair in delivered),
        tuple(pair for _, failed in results for pair in failed),
    )


def _is_recent(alert: Alert, now: datetime) -> bool:
    horizon_us = to_micros(now - RETRY_HORIZON)
    return bool(alert.recordedtime) and parse_micros(alert.recordedtime) >= horizon_us


def _read_log(path: Path, of: type[_Line]) -> list[_Line]:
    decoder = msgspec.json.Decoder(of)
    found = []
    for generation in [*reversed(rotated_siblings(path)), path]:
        if not generation.is_file():
            continue
        with open_log(generation) as file:
            for offset, line in iter_lines(file.read()):
                if not line.strip():
                    continue
                try:
                    found.append(decoder.decode(line))
                except msgspec.DecodeError:
                    _log.warning("%s: the line at byte %d is not whole; passed over", generation, offset)
    return found
