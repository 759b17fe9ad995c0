"""Policy files: what loads, and what is refused with file, line, rule and fix."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from policy_runtime import PolicyFileError, describe_policy, load_policy, policy_json_schema

# The three rules of the forerunner's documentation, field for field.
SEED_POLICY = """\
version: "0.1.0"
namespaces:
  default:
    rules:
      - id: "default-daily-cap"
        primitive: budget_threshold
        period: daily
        limit_usd: 10.00
        action: downgrade
        downgrade_to_tier: cheap
  demo:
    rules:
      - id: "demo-hourly-cap"
        primitive: budget_threshold
        period: hourly
        limit_usd: 1.00
        action: deny
        deny_reason: "Hourly budget exceeded"
      - id: "demo-route-preference"
        primitive: route_preference
        route_name: "/answer-routed"
        prefer_tier: cheap
      - id: "demo-cost-anomaly"
        primitive: cost_anomaly
        feature_id: "summarize"
        baseline_window_hours: 24
        threshold_multiplier: 3.0
        action: alert
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return path


def rule(body: str) -> str:
    return f"namespaces:\n  team:\n    rules:\n      - id: cap\n{body}"


BUDGET = "        primitive: budget_threshold\n        period: hourly\n        limit_usd: 1\n        action: deny\n"


def test_the_forerunners_file_loads_unchanged_and_is_told_in_words(tmp_path: Path) -> None:
    loaded = load_policy(write(tmp_path, SEED_POLICY))
    words = "\n".join(describe_policy(loaded.policy))
    assert (
        "denies (Hourly budget exceeded) what could take spending above 1 USD within any 60 minutes" in words
    )
    assert "moves requests to tier cheap (it bounds nothing) once spending could pass 10 USD" in words
    assert "on route /answer-routed, requests go to tier cheap" in words
    assert "above 3 times the mean of its feature and tier over 24 hours (at least 20 requests)" in words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rule(BUDGET.replace("budget_threshold", "budget_treshold")), ["policy.yaml:4", "'cap'", "'budget_threshold'"]),
        (rule(BUDGET.replace("action: deny", "action: denyy")), ["policy.yaml:8", "rule 'cap'", "Did you mean 'deny'"]),
        (rule(BUDGET.replace("limit_usd: 1", 'limit_usd: "1"')), ["policy.yaml:7", "without quotes"]),
        (rule(BUDGET.replace("limit_usd: 1", "limit_usd: -1")), ["policy.yaml:7", "greater than or equal to 0"]),
        (rule(BUDGET.replace("limit_usd: 1", "limit_usd: .nan")), ["policy.yaml:7", "finite"]),
        (rule(BUDGET.replace("limit_usd: 1", "limt_usd: 1")), ["policy.yaml:7", "'limt_usd'", "Did you mean 'limit_usd'"]),
        (rule(BUDGET.replace("        period: hourly\n", "")), ["policy.yaml:4", "`period` is missing"]),
        (rule(BUDGET) + "      - id: cap\n" + BUDGET, ["namespace 'team'", "'cap' stands twice"]),
        (rule(BUDGET + "        limit_usd: 2\n"), ["policy.yaml:9", "'limit_usd' stands twice", "line 7"]),
        (rule(BUDGET.replace("action: deny", "action: downgrade\n        downgrade_to_tier: chep")),
         ["policy.yaml:9", "no tier is named 'chep'", "Did you mean 'cheap'"]),
        ("namespaces:\n  team:\n", ["policy.yaml:2", "namespace 'team'"]),
        ("namespaces: null\n", ["policy.yaml:1"]),
        ("- a\n", ["a policy is a mapping"]),
        ("", ["the file is empty"]),
        ("namespaces: [\n", ["policy.yaml:2", "not valid YAML"]),
        ("namespaces: {}\ntimezone: Europe/Berln\n", ["policy.yaml:2", "no time zone is named 'Europe/Berln'"]),
        (rule("        primitive: rate_limit\n"), ["'cap'", "requests_per_minute"]),
        (rule("        primitive: cost_anomaly\n        threshold_multiplier: 0\n"), ["policy.yaml:6", "greater than 0"]),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_naming_file_line_rule_and_fix(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    with pytest.raises(PolicyFileError) as refused:
        load_policy(write(tmp_path, text))
    for part in expected:
        assert part in str(refused.value)


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = rule(BUDGET.replace("hourly", "hurly").replace("limit_usd: 1", "limit_usd: -1"))
    with pytest.raises(PolicyFileError) as refused:
        load_policy(write(tmp_path, text))
    assert len(str(refused.value).splitlines()) == 2


def test_the_schema_names_every_primitive() -> None:
    text = str(policy_json_schema())
    for primitive in ("budget_threshold", "route_preference", "cost_anomaly", "rate_limit", "token_limit"):
        assert primitive in text


NINES = "9" * 5000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{key}: &{key} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, key in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("namespaces: &all\n  default: *all\n", "policy.yaml:1: the alias holds itself"),
        ("namespaces: " + "[" * 5000 + "]" * 5000, "policy.yaml: nested too deeply"),
        (BOMB + "namespaces: {}\n", "policy.yaml:6: its aliases unfold to more than 100,000 values"),
        ("? [a, b]\n: 1\nnamespaces: {}\n", "policy.yaml:1: a key is one word or text"),
        (f"namespaces: {{}}\nmax_scopes: {NINES}\n", "policy.yaml: not valid YAML: a value cannot be read"),
        ("version: 2024-13-45\nnamespaces: {}\n", "policy.yaml: not valid YAML: a value cannot be read"),
        ("version: !!bool maybe\nnamespaces: {}\n", "policy.yaml: not valid YAML: a value cannot be read"),
        ("version: !!timestamp now\nnamespaces: {}\n", "policy.yaml: not valid YAML: a value cannot be read"),
        ("namespaces: {}\ntimezone: Europe\n", "policy.yaml:2: no time zone is named 'Europe'"),
    ],
    ids=["alias", "depth", "bomb", "key", "digits", "date", "bool", "timestamp", "folder"],
)
def test_a_file_made_to_break_its_reader_is_refused_like_any_other(
    tmp_path: Path, text: str, expected: str
) -> None:
    """A running gate reads the file when it changes: what is not refused would end or stop its callers."""
    with pytest.raises(PolicyFileError) as refused:
        load_policy(write(tmp_path, text))
    assert expected in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rule(BUDGET.replace("limit_usd: 1", "limit_usd: 050")), "policy.yaml:7: YAML reads 050 in base 8"),
        (rule(BUDGET.replace("limit_usd: 1", "limit_usd: 1:30")), "policy.yaml:7: YAML reads 1:30 in base 60"),
        (rule(BUDGET.replace("limit_usd: 1", "limit_usd: 1e3")), "found '1e3', which YAML takes for text"),
        (rule(BUDGET) + "        per: [tenant_id, tenant_id]\n", "policy.yaml:9, namespace 'team', rule 'cap': "
         "'tenant_id' stands twice"),
        (rule(BUDGET) + "        alert_at: [0.5, 0.9, 0.5]\n", "0.5 stands twice"),
        (rule(BUDGET) + "        per: tenant_id\n", "per: found 'tenant_id'; it must be a list"),
        (rule(BUDGET) + "        alert_at: [0.5, 2]\n", "alert_at[1]: found 2"),
        (rule(BUDGET) + "      - id: cap\n" + BUDGET, "policy.yaml:9, namespace 'team', rule 'cap': rule id 'cap'"),
        ("namespaces:\n  default:\n", "default: found None; it must be a mapping"),
        ("namespaces:\n  default:\n    rules:\n", "rules: found None; it must be a list"),
        ("namespaces: {1: {rules: []}}\n", "the key 1 must be text: put quotes around it"),
        ("namespaces: {}\nversion: 2024-01-01\n", "policy.yaml:2: version: found datetime.date(2024, 1, 1); it must be text"),
    ],
)  # fmt: skip
def test_what_reads_otherwise_than_a_person_would_is_told_in_a_persons_words(
    tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(PolicyFileError) as refused:
        load_policy(write(tmp_path, text))
    assert expected in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_anchors_and_merges_that_unfold_to_little_are_fine(tmp_path: Path) -> None:
    text = (
        "namespaces:\n  default:\n    rules:\n      - &cap\n        id: cap\n"
        + BUDGET
        + "      - {<<: *cap, id: cup}\n"
    )
    assert [rule.id for rule in load_policy(write(tmp_path, text)).policy.namespaces["default"].rules] == [
        "cap",
        "cup",
    ]


@pytest.mark.parametrize(
    ("limit", "fraction", "words"),
    [
        ("1234567.89", "0.995", "spending above 1,234,567.89 USD within any 60 minutes. Alerts at 99.5%."),
        ("0.0000025", "0.29", "spending above 0.0000025 USD within any 60 minutes. Alerts at 29%."),
        ("0", "1", "spending above 0 USD within any 60 minutes. Alerts at 100%."),
        ("50", "0.8", "spending above 50 USD within any 60 minutes. Alerts at 80%."),
    ],
)
def test_the_words_give_every_digit_of_a_number(
    tmp_path: Path, limit: str, fraction: str, words: str
) -> None:
    text = rule(BUDGET.replace("limit_usd: 1", f"limit_usd: {limit}") + f"        alert_at: [{fraction}]\n")
    assert words in "\n".join(describe_policy(load_policy(write(tmp_path, text)).policy))


@pytest.mark.parametrize(
    "limit", [Decimal("5"), object(), {1, 2}.__iter__()], ids=["decimal", "object", "iterator"]
)
def test_a_mapping_that_no_file_could_hold_is_refused_like_a_file(limit: object) -> None:
    """The log keeps a policy's text, so there must be one."""
    cap = {
        "id": "cap",
        "primitive": "budget_threshold",
        "period": "daily",
        "limit_usd": limit,
        "action": "deny",
    }
    with pytest.raises(
        PolicyFileError, match=r"policy mapping: .*; a policy is made of text, numbers, lists"
    ):
        load_policy({"namespaces": {"default": {"rules": [cap]}}})
