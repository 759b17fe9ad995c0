"""The wheel carries what runs: SQL, prices and the trace, and nothing of the checkout is needed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROBE = """
import governance_pipeline, llmscope, policy_runtime
from governance_pipeline.demo.trace import load_trace
from governance_pipeline.sql_files import load_sql
assert "site" in governance_pipeline.__file__, governance_pipeline.__file__
print(len(load_trace()), load_sql("questions/unsafe_routes").parameters != (), llmscope.get_pricing()["gpt-4o"])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, as an installer would lay it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_runs_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    # -S -I would drop the dependencies too; a path file order with ours first is what an install has.
    code = f"import sys; sys.path.insert(0, {str(installed)!r})\n{PROBE}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["28185", "True"]


def test_the_wheel_brings_no_tests_and_no_state(installed: Path) -> None:
    tops = {path.name for path in installed.iterdir()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {
        "llmscope",
        "policy_runtime",
        "governance_pipeline",
    }


def test_no_file_of_the_project_names_an_index(installed: Path) -> None:
    for name in ("pyproject.toml", "constraints.txt", "Makefile"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text.replace("http://127.0.0.1", ""), name
        assert "index-url" not in text
