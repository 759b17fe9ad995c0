"""Where the log is: one function for writers and readers."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmscope import ConfigurationError, Settings
from llmscope.gateway import telemetry
from llmscope.settings import telemetry_path_from


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, "artifacts/logs/telemetry.jsonl"),
        ({"GOVERNANCE_HOME": "/g"}, "/g/logs/telemetry.jsonl"),
        ({"GOVERNANCE_HOME": "/g", "TELEMETRY_PATH": "/t.jsonl"}, "/t.jsonl"),
        ({"LLMSCOPE_TELEMETRY_PATH": "/o.jsonl"}, "/o.jsonl"),
        ({"TELEMETRY_PATH": "/t.jsonl", "LLMSCOPE_TELEMETRY_PATH": "/t.jsonl"}, "/t.jsonl"),
    ],
)
def test_the_environment_names_the_log(environ: dict[str, str], path: str) -> None:
    assert telemetry_path_from(environ) == Path(path)
    assert Settings.from_environment(environ).telemetry_path == Path(path)


def test_two_names_for_two_files_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="would miss each other"):
        telemetry_path_from({"TELEMETRY_PATH": "/a", "LLMSCOPE_TELEMETRY_PATH": "/b"})


def test_an_argument_beats_a_patch_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRY_PATH", "/environment")
    assert telemetry.telemetry_path() == Path("/environment")
    monkeypatch.setattr(telemetry, "TELEMETRY_PATH", "/patched")
    assert telemetry.telemetry_path() == Path("/patched")
    assert telemetry.telemetry_path("/argument") == Path("/argument")


def test_many_logs_do_not_keep_many_files_open(tmp_path: Path) -> None:
    for index in range(100):
        telemetry.write_line(tmp_path / f"{index}.jsonl", b"{}")
    assert len(telemetry._writers) <= 32
    assert (tmp_path / "0.jsonl").read_bytes() == b"{}\n"
