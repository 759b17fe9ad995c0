"""The README is true: its answers are the demo's, its commands and snippets run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from pytest_httpserver import HTTPServer

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    return [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


class Demo(NamedTuple):
    """A folder in which `make demo` has run."""

    folder: Path
    printed: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("readme")
    (folder / ".venv").symlink_to(sys.prefix)
    inherited = {name: value for name, value in os.environ.items() if not name.endswith(("_PATH", "_HOME"))}
    environment = {**inherited, "PATH": os.environ["PATH"]}
    made = subprocess.run(
        # The environment that runs this test is the one set up: make must not set it up again.
        ["make", f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/.installed", "demo"],
        cwd=ROOT,
        env={**environment, "GOVERNANCE_HOME": str(folder / "artifacts")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    exported = next(line for line in commands() if line.startswith("export "))
    pairs = (pair.partition("=") for pair in exported.removeprefix("export ").split())
    return Demo(folder, made.stdout, {**environment, **{name: value for name, _, value in pairs}})


def test_each_answer_is_the_one_that_the_demo_prints(demo: Demo) -> None:
    opening = README.partition("## Run it")[0]
    answers = re.findall(r"^\*\*\d\. .*?\*\*\n(.+)$", opening, re.MULTILINE)
    assert len(answers) == 5
    printed = " ".join(demo.printed.split())
    for sentence in answers:
        assert sentence in printed


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith(".venv/bin/")])
def test_a_command_runs_on_the_demos_data(demo: Demo, command: str) -> None:
    done = subprocess.run(
        command, shell=True, cwd=demo.folder, env=demo.environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() or done.stderr.strip()


def test_every_make_target_named_exists() -> None:
    named = set(re.findall(r"make ([a-z-]+)`", README)) | {
        c.split()[1] for c in commands() if c.startswith("make ")
    }
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test", "dev", "bench"} <= named
    for target in named:
        assert re.search(rf"^{target}:.*##", makefile, re.MULTILINE), target


def test_every_link_and_picture_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def run_snippet(code: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_gate_snippets_run_behind_the_real_sdk(
    demo: Demo, tmp_path: Path, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/v1/responses", method="POST").respond_with_json(
        {
            "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-4o",
            "output": [{"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
                        "content": [{"type": "output_text", "text": "A limit.", "annotations": []}]}],
            "parallel_tool_calls": False, "tool_choice": "auto", "tools": [],
            "usage": {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8,
                      "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}},
        }
    )  # fmt: skip
    (tmp_path / "policy.yaml").write_text(blocks("yaml")[0])
    own = ("GOVERNANCE_HOME", "POLICY_PATH", "ECONOMICS_PATH")
    environment = {name: value for name, value in demo.environment.items() if name not in own}
    environment |= {"OPENAI_API_KEY": "test", "OPENAI_BASE_URL": httpserver.url_for("/v1")}
    printed = run_snippet("\n".join(blocks("python")[:2]), tmp_path, environment)
    # gpt-4o at 2.50 and 10 USD per million: 5 in and 3 out are 0.0000425 USD.
    assert printed.split() == ["A", "limit.", "4.25e-05"]
    logs = tmp_path / "artifacts" / "logs"
    assert len((logs / "telemetry.jsonl").read_text().splitlines()) == 2
    decided = (logs / "policy_decisions.jsonl").read_text()
    assert decided.count('"decision":"allow"') == 2
    for secret in ("What is a budget?", "A limit.", "test"):
        assert secret not in (logs / "telemetry.jsonl").read_text() + decided


def test_the_notebook_snippet_gives_a_data_frame(demo: Demo) -> None:
    printed = run_snippet(blocks("python")[2] + "\nprint(len(frame))", demo.folder, demo.environment)
    assert int(printed) > 0
