"""economics.yaml: what is read, and how each mistake is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from governance_pipeline.economics import NO_ECONOMICS, load_economics, parse_economics
from governance_pipeline.errors import BadInput

SAMPLE = Path(__file__).parents[2] / "fixtures" / "economics" / "economics.yaml"


def test_the_sample_is_read() -> None:
    economics = load_economics(SAMPLE)
    assert [rule.revenue_per_request_usd for rule in economics.file.revenue] == [0.01, 0.004, 0.0055]
    assert economics.file.experiments["prompt-v2"].control == "prompt-v1"
    assert economics.file.thresholds.unsafe_routes.threshold_usd == 0.05
    assert re.fullmatch("[0-9a-f]{16}", economics.hash)


def test_no_file_and_an_empty_file_know_nothing_but_the_default_thresholds() -> None:
    assert load_economics(None) is NO_ECONOMICS
    empty = parse_economics("# nothing yet\n", "economics.yaml")
    assert empty.file == NO_ECONOMICS.file
    assert empty.hash != NO_ECONOMICS.hash


def test_another_text_has_another_hash() -> None:
    assert load_economics({"revenue": []}).hash != load_economics({"experiments": {}}).hash


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("revenue:\n  - tenant: a\n    revenue_per_request_usd: 1\n", 2, "Did you mean 'tenant_id'?"),
        ("revenue:\n  - tenant_id: a\n", 2, "`revenue_per_request_usd` is missing"),
        ("revenue:\n  - tenant_id: a\n    revenue_per_request_usd: '1'\n", 3, "without quotes"),
        (
            "revenue:\n  - tenant_id: a\n    revenue_per_request_usd: -1\n",
            3,
            "found -1; input should be greater",
        ),
        ("revenue:\n  - tenant_id: a\n    revenue_per_request_usd: .nan\n", 3, "revenue_per_request_usd"),
        ("revenue:\n  - tenant_id: 7\n    revenue_per_request_usd: 1\n", 2, "put quotes around it"),
        ("revenues: []\n", 1, "Did you mean 'revenue'?"),
        ("experiments:\n  a: {control: b, alpha: 1}\n", 2, "unknown key 'alpha'"),
        ("experiments:\n  a: {control: a}\n", 1, "names itself as its control"),
        ("experiments:\n  a: {control: b}\n  a: {control: c}\n", 3, "stands twice"),
        ("thresholds:\n  unsafe_routes:\n    threshold: 1\n", 3, "Did you mean 'threshold_usd'?"),
        ("revenue: [\n", 2, "not valid YAML"),
        ("- revenue\n", 1, "economics is a mapping"),
        (
            "revenue:\n  - {tenant_id: a, revenue_per_request_usd: 1}\n"
            "  - {tenant_id: a, revenue_per_request_usd: 2}\n",
            1,
            "revenue rules 1 and 2 name the same",
        ),
    ],
)
def test_each_mistake_names_file_line_and_fix(text: str, line: int, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_economics(text, "economics.yaml")
    assert f"economics.yaml:{line}:" in str(caught.value)
    assert says in str(caught.value)


def test_several_mistakes_are_told_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        parse_economics("revenue:\n  - tenant: a\n  - route: b\n", "e.yaml")
    assert len(str(caught.value).splitlines()) == 4


def test_a_missing_or_binary_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        load_economics(tmp_path / "nowhere.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"binary\.yaml"):
        load_economics(tmp_path / "binary.yaml")
