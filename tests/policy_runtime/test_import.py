"""The gate stays light: what its import must not bring along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
    code = (
        f"import sys\n{statement}\nprint(*sys.modules, *{{name.partition('.')[0] for name in sys.modules}})"
    )
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


@pytest.mark.parametrize(
    "statement", ["import policy_runtime", "from policy_runtime import PolicyDenied, PolicyRuntime"]
)
def test_naming_the_gate_loads_neither_pydantic_nor_yaml(statement: str) -> None:
    assert loaded_after(statement).isdisjoint({"pydantic", "pydantic_core", "yaml"})


def test_building_a_gate_leaves_no_import_of_the_gateway_to_the_first_call(tmp_path: Path) -> None:
    build = f"gate = policy_runtime.PolicyRuntime({{'namespaces': {{}}}}, telemetry_path={str(tmp_path / 't')!r}, "
    build += f"decisions_path={str(tmp_path / 'd')!r})"
    decide = (
        "with gate.admit(route_name='/answer-routed', model_tier='cheap', tokens_in=1) as admission:\n"
        "    admission.settle(tokens_in=1, tokens_out=1)"
    )
    built = loaded_after(f"import policy_runtime\n{build}")
    later = loaded_after(f"import policy_runtime\n{build}\n{decide}") - built
    assert not {name for name in later if name.startswith("llmscope")}
