"""The 26 defects of the forerunner (docs/defects.md), those that no other test shows to be absent.

Also: every test that the documentation names exists.
"""

from __future__ import annotations

import ast
import asyncio
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llmscope import (
    LLMRequestContext,
    RoutePolicy,
    SimulatedProvider,
    VirtualClock,
    call_llm,
    register_provider,
    register_route,
)
from llmscope.event_log import LogTail
from policy_runtime import PolicyDenied, PolicyRuntime
from tests.policy_runtime.log_lines import START, original_line, read_lines, write_lines

ROOT = Path(__file__).parents[2]
# gpt-4o: 2.50 and 10 USD per million tokens; 1,000 in and at most 500 out reserve 0.0025 + 0.005 USD.
ASK: dict[str, Any] = {"route_name": "/answer-routed", "model_tier": "expensive", "tokens_in": 1000}
WORST_CASE_USD = 0.0075


def cap(limit_usd: float, action: str = "deny") -> dict[str, Any]:
    return {
        "id": f"{action}-cap",
        "primitive": "budget_threshold",
        "period": "hourly",
        "limit_usd": limit_usd,
        "action": action,
    }


def policy(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"namespaces": {"default": {"rules": list(rules)}}}


@pytest.fixture
def make_gate(tmp_path: Path) -> Any:
    gates: list[PolicyRuntime] = []

    def make(source: Any, **more: Any) -> PolicyRuntime:
        paths = {"telemetry_path": tmp_path / "t.jsonl", "decisions_path": tmp_path / "d.jsonl"}
        clock = VirtualClock(START + timedelta(seconds=60))
        gate = PolicyRuntime(source, **{**paths, "clock": clock, **more})
        gates.append(gate)
        return gate

    yield make
    for gate in gates:
        gate.close()


def decisions_of(folder: Path) -> list[dict[str, Any]]:
    return [line for line in read_lines(folder / "d.jsonl") if "event" not in line]


# -- defect 1 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["TELEMETRY_PATH", "LLMSCOPE_TELEMETRY_PATH", "GOVERNANCE_HOME"])
async def test_the_log_that_llmscope_writes_is_the_log_that_the_gate_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    names = ("TELEMETRY_PATH", "LLMSCOPE_TELEMETRY_PATH", "GOVERNANCE_HOME", "DECISIONS_PATH", "POLICY_PATH")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    (tmp_path / "policy.yaml").write_text(
        "namespaces:\n  default:\n    rules:\n"
        "      - {id: cap, primitive: budget_threshold, period: daily, limit_usd: 1.0, action: deny}\n"
    )
    register_provider("sim-defects", SimulatedProvider(1, VirtualClock(START), 1, 2, 0.0))
    register_route("/defects", RoutePolicy(50, 0, False, {"expensive": "gpt-4o"}, "sim-defects"))
    result = await call_llm("hi", "expensive", "/defects")
    gate = PolicyRuntime.from_settings()
    assert gate.live_windows()[0].spent == result.estimated_cost_usd
    gate.close()


# -- defects 2, 6: timestamps and types -----------------------------------------------------------------------


@pytest.mark.parametrize("end", ["+00:00", "Z", "+00:00Z", ""])
def test_every_form_of_a_timestamp_spends_the_budget(make_gate: Any, tmp_path: Path, end: str) -> None:
    timestamp = START.isoformat(timespec="microseconds").removesuffix("+00:00") + end
    write_lines(tmp_path / "t.jsonl", [original_line(0, 1.0, "a", timestamp=timestamp)])
    assert make_gate(policy(cap(1.0))).evaluate(**ASK).decision == "deny"


def test_spend_tagged_after_twenty_thousand_untagged_lines_counts(make_gate: Any, tmp_path: Path) -> None:
    rules = {"namespaces": {"default": {"rules": []}, "2026-03-24": {"rules": [cap(1.0)]}}}
    tags = {"budget_namespace": "2026-03-24", "feature_id": 7}  # an id like a date, a tag that is no text
    untagged = [original_line(0, 0.0, f"u{n}", audit_tags={}) for n in range(20_500)]
    write_lines(tmp_path / "t.jsonl", [*untagged, original_line(1, 1.0, "tagged", audit_tags=tags)])
    gate = make_gate(rules)
    asked = {**ASK, "context": LLMRequestContext(budget_namespace="2026-03-24")}
    assert gate.evaluate(**asked).decision == "deny"
    assert gate.evaluate(**ASK).decision == "allow"


# -- defect 3: swallowed errors -------------------------------------------------------------------------------


def swallowing_handlers(source: str) -> list[int]:
    """Lines of handlers that take any error and neither raise, nor log, nor give it to somebody."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        broad = node.type is None or (
            isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
        )
        inside = list(ast.walk(ast.Module(body=node.body, type_ignores=[])))
        raises = any(isinstance(one, ast.Raise) for one in inside)
        logs = any(
            isinstance(one, ast.Attribute) and one.attr in ("error", "exception", "warning") for one in inside
        )
        used = any(isinstance(one, ast.Name) and one.id == node.name for one in inside)
        if broad and not (raises or logs or used):
            lines.append(node.lineno)
    return lines


def test_no_handler_swallows_every_error() -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for package in ("llmscope", "policy_runtime", "governance_pipeline")
        for path in (ROOT / package).rglob("*.py")
        if (lines := swallowing_handlers(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_a_handler_that_swallows_every_error_is_seen() -> None:
    assert swallowing_handlers("try:\n    f()\nexcept Exception:\n    pass\n") == [3]
    assert swallowing_handlers("try:\n    f()\nexcept:\n    x = []\n") == [3]
    assert swallowing_handlers("try:\n    f()\nexcept Exception:\n    logger.error('x')\n    raise\n") == []


# -- defect 9: the race ----------------------------------------------------------------------------------------


async def spend_at_once(gate: PolicyRuntime, requests: int) -> float:
    """What `requests` concurrent calls of 0.50 USD each spend: all are admitted before any is billed."""
    entered = asyncio.Barrier(requests)
    spent = 0.0

    async def one() -> None:
        nonlocal spent
        try:
            async with gate.admit(
                route_name="/answer-routed", model_tier="expensive", tokens_in=0, max_output_tokens=50_000
            ) as admission:
                await entered.wait()
                admission.settle(cost_usd=0.5)
                spent += 0.5
        except PolicyDenied:
            await entered.wait()

    await asyncio.gather(*(one() for _ in range(requests)))
    return spent


async def test_forty_requests_at_once_never_pass_ten_dollars(make_gate: Any) -> None:
    assert await spend_at_once(make_gate(policy(cap(10.0))), 40) == 10.0


async def test_twin_without_reservations_forty_requests_spend_twenty_dollars(
    make_gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policy_runtime.ledger.Ledger.admit_new", lambda self, admitted: None)
    assert await spend_at_once(make_gate(policy(cap(10.0))), 40) == 20.0


# -- defects 10, 11: attribution -------------------------------------------------------------------------------


def test_no_namespace_and_the_default_namespace_are_one_budget(make_gate: Any) -> None:
    gate = make_gate(policy(cap(WORST_CASE_USD)))
    with gate.admit(**ASK):
        pass
    with pytest.raises(PolicyDenied):
        gate.admit(**ASK, context=LLMRequestContext(budget_namespace="default")).__enter__()


def test_use_case_and_feature_stay_apart_in_both_logs(make_gate: Any, tmp_path: Path) -> None:
    context = LLMRequestContext(use_case="support", feature_id="summarize")
    with make_gate(policy(cap(1.0))).admit(**ASK, context=context) as admission:
        admission.settle(cost_usd=0.001)
    (decision,), (bill,) = decisions_of(tmp_path), read_lines(tmp_path / "t.jsonl")
    for line in (decision, bill):
        assert (line["use_case"], line["feature_id"]) == ("support", "summarize")


# -- defect 13: failures ---------------------------------------------------------------------------------------


async def test_a_failed_call_has_its_decision_and_keeps_its_reservation(
    make_gate: Any, tmp_path: Path
) -> None:
    from tests.llmscope.scripted import ScriptedError, ScriptedProvider

    register_provider("failing", ScriptedProvider([ScriptedError("transient_error")]))
    register_route("/failing", RoutePolicy(500, 0, False, {"expensive": "gpt-4o"}, "failing"))
    gate = make_gate(policy(cap(1.0)))
    with pytest.raises(ScriptedError):
        await gate.call_llm(prompt="hi", model_tier="expensive", route_name="/failing", tokens_in=1000)
    (decision,), (line,) = decisions_of(tmp_path), read_lines(tmp_path / "t.jsonl")
    assert decision["request_id"] == line["request_id"]
    assert (line["status"], line["estimated_cost_usd"]) == ("error", None)
    assert gate.live_windows()[0].reserved == WORST_CASE_USD


# -- defect 17: routes -----------------------------------------------------------------------------------------


def test_a_route_that_llmscope_does_not_know_is_priced_and_decided(make_gate: Any, tmp_path: Path) -> None:
    with make_gate(policy(cap(1.0))).admit(**{**ASK, "route_name": "/never-registered"}) as admission:
        assert admission.model == "gpt-4o"
    (decision,) = decisions_of(tmp_path)
    assert (decision["route_name"], decision["reserved_cost_usd"]) == ("/never-registered", WORST_CASE_USD)


# -- defect 18: anomalies --------------------------------------------------------------------------------------


def test_an_anomaly_is_judged_by_successes_of_its_own_feature_and_tier(
    make_gate: Any, tmp_path: Path
) -> None:
    tags = {"feature_id": "chat"}
    usual = [original_line(n, 0.0075, f"usual{n}", audit_tags=tags) for n in range(20)]
    # Each of these would pull the mean far below 0.0075, and the next request would look anomalous.
    free_failures = [
        original_line(n, 0.0, f"failed{n}", audit_tags=tags, status="error", finish_reason=None)
        for n in range(50)
    ]
    cheap_tier = [
        original_line(n, 0.0001, f"cheap{n}", audit_tags=tags, model_tier="cheap") for n in range(50)
    ]
    others = [original_line(n, 0.0001, f"other{n}", audit_tags={"feature_id": "other"}) for n in range(50)]
    write_lines(tmp_path / "t.jsonl", [*usual, *free_failures, *cheap_tier, *others])
    odd = {"id": "odd", "primitive": "cost_anomaly", "feature_id": "chat", "threshold_multiplier": 2.0}
    with make_gate(policy(odd)).admit(**ASK, context=LLMRequestContext(feature_id="chat")):
        pass
    (rule,) = decisions_of(tmp_path)[0]["rules"]
    assert (rule["outcome"], rule["samples"], rule["baseline_usd"]) == ("allow", 20, 0.0075)


# -- defects 19, 20, 22: what a record says, and where ----------------------------------------------------------


def test_a_plain_allow_shows_its_window_and_every_rule(make_gate: Any, tmp_path: Path) -> None:
    write_lines(tmp_path / "t.jsonl", [original_line(0, 0.25, "a")])
    with make_gate(policy(cap(1.0), cap(2.0, "downgrade"))).admit(**ASK):
        pass
    (record,) = decisions_of(tmp_path)
    assert "primitive" not in record
    assert (record["window_cost_usd"], record["window_limit_usd"]) == (0.25, 1.0)
    assert [rule["policy_id"] for rule in record["rules"]] == ["deny-cap", "downgrade-cap"]
    assert all(rule["primitive"] == "budget_threshold" for rule in record["rules"])


def test_a_path_with_quotes_and_stars_is_just_a_path(make_gate: Any, tmp_path: Path) -> None:
    strange = write_lines(tmp_path / "it's *.jsonl", [original_line(0, 1.0, "a")])
    write_lines(tmp_path / "it's another.jsonl", [original_line(0, 0.25, "b")])
    gate = make_gate(policy(cap(1.5)), telemetry_path=strange)
    assert gate.evaluate(**ASK).window_cost_usd == 1.0


def test_twin_a_path_taken_for_a_pattern_reads_another_file(
    make_gate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = write_lines(tmp_path / "it's *.jsonl", [original_line(0, 1.0, "a")])
    write_lines(tmp_path / "it's another.jsonl", [original_line(0, 0.25, "b")])
    follow = LogTail.__init__

    def follow_a_match(self: LogTail, path: Path) -> None:
        follow(
            self, sorted(tmp_path.glob(Path(path).name), reverse=True)[0] if "*" in Path(path).name else path
        )

    monkeypatch.setattr(LogTail, "__init__", follow_a_match)
    assert make_gate(policy(cap(1.5)), telemetry_path=strange).evaluate(**ASK).window_cost_usd == 0.25


class SteppingClock(VirtualClock):
    """A wall clock that is set back by an hour at every look; its monotonic time goes on."""

    def now(self) -> datetime:
        self.shift = getattr(self, "shift", 0) + 1
        return super().now() - timedelta(hours=self.shift)


def test_decisions_are_stamped_in_utc_and_timed_by_the_monotonic_clock(
    make_gate: Any, tmp_path: Path
) -> None:
    gate = make_gate(policy(cap(1.0)), clock=SteppingClock(START))
    with gate.admit(**ASK):
        pass
    (record,) = decisions_of(tmp_path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", record["timestamp"])
    assert record["latency_ms"] >= 0


# -- defects 23, 26: denials -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "status", "reason"),
    [
        (cap(0.0), 402, "budget_exceeded"),
        ({"id": "r", "primitive": "token_limit", "max_tokens_in": 10}, 402, "max_tokens_in"),
        ({"id": "r", "primitive": "model_allowlist", "models": ["x"]}, 402, "model_not_allowed: gpt-4o"),
        ({"id": "r", "primitive": "rate_limit", "tokens_per_day": 10}, 429, "tokens_per_day"),
    ],
)
def test_a_denial_says_which_rule_and_why(
    make_gate: Any, rule: dict[str, Any], status: int, reason: str
) -> None:
    with pytest.raises(PolicyDenied) as denied:
        make_gate(policy(rule)).admit(**ASK).__enter__()
    problem = denied.value.problem()
    assert (problem["status"], problem["reason"], problem["policy_id"]) == (status, reason, rule["id"])
    assert problem["type"] == f"urn:llm-governance:{rule['primitive']}"
    assert problem["budget_namespace"] == "default"


def test_what_was_asked_for_stays_on_the_record_of_a_downgrade_and_a_denial(
    make_gate: Any, tmp_path: Path
) -> None:
    with make_gate(policy(cap(0.0, "downgrade"))).admit(**ASK):
        pass
    with pytest.raises(PolicyDenied):
        make_gate(policy(cap(0.0))).admit(**ASK).__enter__()
    downgrade, denial = decisions_of(tmp_path)
    # gpt-4o-mini: 0.15 and 0.60 USD per million tokens.
    assert (downgrade["requested_estimated_cost_usd"], downgrade["estimated_cost_usd"]) == (0.0075, 0.00045)
    assert denial["requested_estimated_cost_usd"] == 0.0075


# -- the documentation names tests that exist -------------------------------------------------------------------


def names_in_the_tests() -> set[str]:
    """The names of all test functions, and of all files, under tests/."""
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        names.add(str(path.relative_to(ROOT)))
        names |= set(re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE))
    return names


def made_up_names(text: str) -> set[str]:
    """Tests and test files that a text names in code spans, and that do not exist."""
    spans = re.findall(r"`([^`\n]+)`", text)
    named = {span for span in spans if re.fullmatch(r"test_\w+|tests/[\w/]+\.py", span)}
    return named - names_in_the_tests()


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_every_test_that_the_documentation_names_exists(page: str) -> None:
    assert made_up_names((ROOT / "docs" / page).read_text(encoding="utf-8")) == set()


def test_a_made_up_name_is_seen() -> None:
    made_up = "test_nothing_of_" + "the_kind"
    assert made_up_names(f"→ `{made_up}`, `tests/no/such_file.py`") == {made_up, "tests/no/such_file.py"}


def test_each_of_the_26_defects_has_a_row_with_a_test_or_the_part_that_is_missing() -> None:
    text = (ROOT / "docs" / "defects.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|(.*)\|(.*)\|$", text, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 27))
    for number, _, shown in rows:
        assert "`test_" in shown, f"defect {number} names no test"


def test_every_arrow_of_the_semantics_points_at_a_test() -> None:
    text = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    for line in text.splitlines():
        for after in line.split("→")[1:]:
            if after.lstrip().startswith("`te"):
                assert re.match(r"\s*`(test_\w+|tests/[\w/]+\.py)`", after), line
