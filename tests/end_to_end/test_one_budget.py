"""Eight processes, one budget of a dollar: never passed at any decision, and nearly all of it used.

What each decision saw is worked out here from the two logs alone, in decimals, by the position of
telemetry that the decision names: not by the code that decided.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROCESSES = 8
LIMIT_USD = Decimal(1)
POLICY = """\
namespaces:
  default:
    rules:
      - {id: dollar, primitive: budget_threshold, period: daily, limit_usd: 1.0, action: deny}
"""


def hammer(folder: Path, broken: str = "nothing") -> tuple[Path, Path]:
    policy, telemetry, decisions = folder / "policy.yaml", folder / "t.jsonl", folder / "d.jsonl"
    policy.write_text(POLICY)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.end_to_end.hammer",
                policy,
                telemetry,
                decisions,
                str(number),
                broken,
            ],
            cwd=ROOT,
            env=environment,
        )
        for number in range(PROCESSES)
    ]
    try:
        while len(list(folder.glob("ready-*"))) < PROCESSES and all(
            worker.poll() is None for worker in workers
        ):
            time.sleep(0.01)
        (folder / "go").touch()
        assert [worker.wait(timeout=120) for worker in workers] == [0] * PROCESSES
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return telemetry, decisions


def highest_commitment(telemetry: Path, decisions: Path) -> Decimal:
    """The most that was spent + reserved right after any admission, from the logs alone."""
    bills = []
    offset = 0
    for line in telemetry.read_bytes().splitlines(keepends=True):
        bill = json.loads(line, parse_float=Decimal)
        bills.append((offset, bill["request_id"], Decimal(bill["estimated_cost_usd"])))
        offset += len(line)
    highest = Decimal(0)
    spent, billed = Decimal(0), 0
    open_reservations: dict[str, Decimal] = {}
    for line in decisions.read_bytes().splitlines():
        if not line:
            continue  # writers without a lock (the twin) may see each other's half-written lines as torn
        decision = json.loads(line, parse_float=Decimal)
        if "event" in decision:
            continue
        seen_until = decision.get("telemetry_position", {"offset": 0})["offset"]
        while billed < len(bills) and bills[billed][0] < seen_until:
            _, request_id, cost = bills[billed]
            spent += cost
            open_reservations.pop(request_id, None)
            billed += 1
        if decision["decision"] != "deny":
            open_reservations[decision["request_id"]] = Decimal(decision["reserved_cost_usd"])
        highest = max(highest, spent + sum(open_reservations.values()))
    return highest


def test_eight_processes_never_pass_one_dollar_and_use_nearly_all_of_it(tmp_path: Path) -> None:
    telemetry, decisions = hammer(tmp_path)
    assert highest_commitment(telemetry, decisions) <= LIMIT_USD
    bills = [json.loads(line, parse_float=Decimal) for line in telemetry.read_bytes().splitlines()]
    used = sum(Decimal(bill["estimated_cost_usd"]) for bill in bills)
    assert Decimal("0.95") <= used <= LIMIT_USD
    assert len({bill["tenant_id"] for bill in bills}) == PROCESSES
    records = [json.loads(line) for line in decisions.read_bytes().splitlines()]
    admitted = [record for record in records if record.get("decision") in ("allow", "downgrade")]
    assert len(bills) == len(admitted)
    assert any(record.get("decision") == "deny" for record in records)


@pytest.mark.parametrize("broken", ["lock", "reservation"])
def test_without_its_safeguards_the_budget_is_passed(tmp_path: Path, broken: str) -> None:
    telemetry, decisions = hammer(tmp_path, broken)
    assert highest_commitment(telemetry, decisions) > LIMIT_USD
