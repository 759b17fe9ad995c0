"""One decision, told in words and numbers, from the logs alone (no warehouse is needed).

What does not belong here: the rules of settlement (`policy_runtime.account_for`), only their telling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from governance_pipeline.log_files import Log, find_log_files
from governance_pipeline.settings import Settings
from llmscope.errors import MalformedLine
from llmscope.event_log import FINGERPRINT_BYTES, fingerprint_of, open_log
from llmscope.money import from_nano, to_nano
from llmscope.telemetry_line import Usage, read_usage
from llmscope.timestamps import format_micros, parse_micros
from policy_runtime import (
    Account,
    Bill,
    DecisionRecord,
    Lease,
    RuleOutcome,
    Standing,
    account_for,
    decode_decision,
    is_decision,
)

_STANDING_WORDS = {
    Standing.RESERVED: "no bill has come yet; its reservation counts against the budget",
    Standing.UNKNOWN_BILL: "it was billed at an unknown cost; its reservation counts until it expires",
    Standing.LAPSED: "no bill with a known cost came in time; its reservation has lapsed and counts no more",
    Standing.SETTLED: "its bill has replaced the reservation",
    Standing.SETTLED_LATE: "its bill came after the reservation had lapsed; it counts all the same",
    Standing.DENIED: "it was never sent and cost nothing",
    Standing.UNGOVERNED: "it was billed without a decision that allowed it; what it cost counts as spent",
}


@dataclass(slots=True)
class Trail:
    """Everything both logs say of one request.

    Attributes:
        decision: its decision line, None when it was never decided.
        extensions: instants its reservation was extended to, microseconds since 1970; the last one holds.
        usages: its telemetry lines, in the order timestamp, file, offset.
    """

    request_id: str
    decision: DecisionRecord | None = None
    extensions: list[int] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether either log knows the request."""
        return self.decision is not None or bool(self.usages)

    def account(self, now_us: int) -> Account:
        """Where the request stands at `now_us`."""
        lease = None
        if self.decision is not None:
            record = self.decision
            expires = record.reservation_expires_at
            expires_us = parse_micros(expires) if expires else parse_micros(record.timestamp or "")
            lease = Lease(
                denied=record.decision == "deny",
                reserved_nano=to_nano(record.reserved_cost_usd or 0),
                expires_us=[expires_us, *self.extensions][-1],
            )
        bills = [Bill(usage.timestamp_us, usage.cost_nano) for usage in self.usages]
        return account_for(lease, bills, now_us)


def follow(request_id: str, settings: Settings) -> Trail:
    """What both logs, rotated and archived generations included, say of `request_id`. Bad lines are passed
    over.

    Raises:
        ArchiveDamaged: an archived segment cannot be read.
    """
    trail = Trail(request_id)
    for line in _lines_naming(request_id, settings, "decisions"):
        try:
            record = decode_decision(line)
        except MalformedLine:
            continue
        if record.request_id != request_id:
            continue
        if is_decision(record):
            trail.decision = trail.decision or record
        elif record.event == "reservation_extended" and record.reservation_expires_at:
            trail.extensions.append(parse_micros(record.reservation_expires_at))
    for line in _lines_naming(request_id, settings, "telemetry"):
        try:
            usage = read_usage(line, "")
        except MalformedLine:
            continue
        if usage is not None and usage.request_id == request_id:
            trail.usages.append(usage)
    trail.usages.sort(key=lambda usage: usage.timestamp_us)
    return trail


def as_row(trail: Trail, now_us: int) -> dict[str, Any]:
    """The trail as one row for programs; columns in a fixed order."""
    account = trail.account(now_us)
    decision = {} if trail.decision is None else msgspec.to_builtins(trail.decision)
    return {
        "request_id": trail.request_id,
        "standing": account.standing.value,
        "spent_usd": from_nano(account.spent_nano),
        "reserved_usd": from_nano(account.reserved_nano),
        "lapsed_usd": from_nano(account.lapsed_nano),
        "decision": decision or None,
        "telemetry": [_usage_row(usage) for usage in trail.usages],
    }


def in_words(trail: Trail, now_us: int) -> list[str]:
    """The trail as sentences: who asked, what each rule said, what it cost, where it stands."""
    lines = [f"Request {trail.request_id}"]
    if trail.decision is None:
        lines.append("No decision names it: it did not go through the gate.")
    else:
        lines += _decision_words(trail.decision)
        lines += [f"Its reservation was extended to {format_micros(us)}." for us in trail.extensions]
    if not trail.usages:
        lines.append("No telemetry names it.")
    lines += [_usage_words(usage) for usage in trail.usages]
    account = trail.account(now_us)
    amounts = [
        f"{name} {_usd(nano)}"
        for name, nano in (
            ("spent", account.spent_nano),
            ("reserved", account.reserved_nano),
            ("lapsed", account.lapsed_nano),
        )
        if nano
    ]
    numbers = f" ({', '.join(amounts)})" if amounts else ""
    lines.append(f"Standing now: {account.standing.value}{numbers}: {_STANDING_WORDS[account.standing]}.")
    return lines


def _decision_words(record: DecisionRecord) -> list[str]:
    who = [
        f"{label} {value}"
        for label, value in (
            ("tenant", record.tenant_id),
            ("caller", record.caller_id),
            ("feature", record.feature_id),
            ("experiment", record.experiment_id),
        )
        if value is not None
    ]
    asked = f"{', '.join(who) or 'nobody named'} asked for tier {record.requested_model_tier}"
    lines = [f"{record.timestamp}: {asked} on route {record.route_name}."]
    charged = record.charged_namespace or record.budget_namespace or "default"
    named = record.budget_namespace
    lines.append(
        f"It is charged to budget namespace {charged}"
        + (f" (it named {named})." if named not in (None, charged) else ".")
    )
    verdict = {"allow": "allowed it", "deny": "denied it"}.get(
        str(record.decision), f"downgraded it to tier {record.effective_model_tier}"
    )
    because = f", because of rule {record.policy_id} ({record.reason})" if record.policy_id else ""
    if record.decision == "deny" and not record.policy_id:
        because = f" ({record.reason}), no rule did"
    model = f", on model {record.model}" if record.model and record.decision != "deny" else ""
    lines.append(f"The gate {verdict}{because}{model}.")
    if record.decision == "deny":
        lines.append(f"Asked for, it would have cost about {_written(record.requested_estimated_cost_usd)}.")
    else:
        lines.append(
            f"It was expected to cost {_written(record.estimated_cost_usd)} and reserved "
            f"{_written(record.reserved_cost_usd)} until {record.reservation_expires_at}."
        )
    if record.window_limit_usd is not None:
        lines.append(
            f"Nearest its limit, the window since {record.window_start} held "
            f"{_written(record.window_cost_usd)} spent and "
            f"{_written(record.window_reserved_usd)} reserved of {_written(record.window_limit_usd)}."
        )
    if record.state not in (None, "fresh"):
        lines.append(f"The gate was {record.state} when it decided: {record.state_reason}.")
    lines += [_rule_words(outcome) for outcome in record.rules or []]
    return lines


def _rule_words(outcome: RuleOutcome) -> str:
    numbers = [
        f"{name} {_written(value) if name.endswith('usd') else value}"
        for name, value in msgspec.to_builtins(outcome).items()
        if name not in ("policy_id", "primitive", "mode", "outcome", "reason") and value is not None
    ]
    shadow = " (shadow: recorded, not applied)" if outcome.mode == "shadow" else ""
    reason = f", {outcome.reason}" if outcome.reason else ""
    told = f": {', '.join(numbers)}" if numbers else ""
    return f"  rule {outcome.policy_id} ({outcome.primitive}){shadow} said {outcome.outcome}{reason}{told}"


def _usage_words(usage: Usage) -> str:
    cost = "an unknown amount" if usage.cost_nano is None else _usd(usage.cost_nano)
    waited = "" if usage.latency_ms is None else f" after {usage.latency_ms:,.0f} ms"
    fallback = ", through a fallback" if usage.is_fallback else ""
    return (
        f"{format_micros(usage.timestamp_us)}: {usage.provider or 'a provider'} "
        f"({usage.model or 'model unknown'}) answered {usage.status}{waited}{fallback}, "
        f"{_tokens(usage.tokens_in)} tokens in, "
        f"{_tokens(usage.tokens_out)} out, and billed {cost}."
    )


def _usage_row(usage: Usage) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(usage)
    row["timestamp"] = format_micros(row.pop("timestamp_us"))
    nano = row.pop("cost_nano")
    row["cost_usd"] = None if nano is None else from_nano(nano)
    return row


def _usd(nano: int) -> str:
    return f"${nano / 1e9:,.9f}".rstrip("0").removesuffix(".")


def _written(usd: float | None) -> str:
    return "an unknown amount" if usd is None else _usd(to_nano(usd))


def _tokens(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def _lines_naming(request_id: str, settings: Settings, log: Log) -> Iterator[bytes]:
    # An id with characters that JSON escapes may be written in several ways: then every line is decoded.
    plain = msgspec.json.encode(request_id)[1:-1] == request_id.encode() and request_id.isascii()
    needle = request_id.encode() if plain else b""
    heads = []
    for path in find_log_files(settings.logs[log]):
        with open_log(path) as file:
            heads.append(file.read(FINGERPRINT_BYTES))
            file.seek(0)
            yield from (line.rstrip(b"\n") for line in file if needle in line)
    if settings.archive_path.is_dir():
        yield from (line.rstrip(b"\n") for line in _archived_lines(settings, log, heads) if needle in line)


def _archived_lines(settings: Settings, log: Log, heads: Sequence[bytes]) -> Iterator[bytes]:
    """The lines of those archived segments whose log file is gone; `heads` are the beginnings of those that
    are there."""
    from governance_pipeline.archive import archived_segments, read_lines  # noqa: PLC0415  (loads pyarrow)

    for segment in archived_segments(settings):
        length = min(FINGERPRINT_BYTES, segment.size_bytes)
        is_on_disk = any(
            fingerprint_of(head[:length]).sha256.startswith(segment.fingerprint) for head in heads
        )
        if segment.log == log and not is_on_disk:
            yield from read_lines(segment.path)
