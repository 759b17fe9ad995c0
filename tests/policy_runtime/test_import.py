"""The gate stays light: what its import must not bring along."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "duckdb",
    "pandas",
    "numpy",
    "pyarrow",
    "dagster",
    "opentelemetry",
    "openai",
    "anthropic",
    "genai_prices",
    "click",
)


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", ["policy_runtime", "llmscope", "llmscope.gateway.client"])
def test_importing_it_loads_nothing_heavy(package: str) -> None:
    assert loaded_after(f"import {package}").isdisjoint(HEAVY)


def test_the_check_sees_a_heavy_import() -> None:
    assert "duckdb" in loaded_after("import policy_runtime, duckdb")


def test_what_is_exported_is_what_all_says() -> None:
    import policy_runtime

    assert sorted(policy_runtime.__all__) == policy_runtime.__all__
    for name in policy_runtime.__all__:
        assert hasattr(policy_runtime, name)
