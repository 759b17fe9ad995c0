"""economics.yaml: what a request earns, which experiment is compared with which, and thresholds.

    revenue:                              # the most specific rule that matches a request counts
      - tenant_id: acme
        feature_id: summarise
        revenue_per_request_usd: 0.02     # earned when the request succeeds
      - route_name: /answer-routed
        revenue_per_request_usd: 0.004
    experiments:
      prompt-v2: {control: prompt-v1}
    thresholds:
      unsafe_routes: {threshold_usd: 0.05}
      experiments: {alpha: 0.05, min_samples: 30, success_margin: 0.02}

What belongs here: the file's model, its mistakes told with line and fix, and handing it to SQL as
temporary tables. What does not: choosing the rule for a request, which `sql/marts/fct_requests.sql` does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import duckdb
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from governance_pipeline.errors import BadInput
from governance_pipeline.sql_files import load_sql
from llmscope.money import MAX_USD, quantise
from llmscope.strict_yaml import parse_strict_yaml, validated

UNTAGGED = "(untagged)"
DEFAULT_THRESHOLD_USD = 0.05
NO_ECONOMICS_HASH = "none"

Name = Annotated[str, Field(strict=True, min_length=1)]
Usd = Annotated[float, Field(strict=True, ge=0, lt=MAX_USD, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RevenueRule(_Strict):
    """What one successful request earns, where every key that the rule gives is the request's own.

    A rule without any key holds for every request.
    """

    tenant_id: Name | None = None
    feature_id: Name | None = None
    route_name: Name | None = None
    revenue_per_request_usd: Usd

    @property
    def keys(self) -> tuple[str | None, str | None, str | None]:
        """Tenant, feature and route, None where the rule does not ask."""
        return self.tenant_id, self.feature_id, self.route_name


class Experiment(_Strict):
    """An experiment's registration: the experiment id (or `(untagged)`) it is compared with."""

    control: Name


class UnsafeRouteThresholds(_Strict):
    """When a route or feature without a known margin is unsafe: an average cost above this, in USD."""

    threshold_usd: Usd = DEFAULT_THRESHOLD_USD


class ExperimentThresholds(_Strict):
    """How sure a verdict on an experiment must be.

    Attributes:
        alpha: two-sided level of significance.
        min_samples: known costs that each arm needs.
        success_margin: loss of success rate that still counts as no worse.
    """

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    min_samples: Annotated[int, Field(strict=True, ge=2)] = 30
    success_margin: Annotated[float, Field(ge=0, lt=1)] = 0.02


class Thresholds(_Strict):
    """Thresholds of the questions that judge."""

    unsafe_routes: UnsafeRouteThresholds = UnsafeRouteThresholds()
    experiments: ExperimentThresholds = ExperimentThresholds()


class EconomicsFile(_Strict):
    """economics.yaml as written."""

    revenue: tuple[RevenueRule, ...] = ()
    experiments: dict[Name, Experiment] = {}
    thresholds: Thresholds = Thresholds()

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> EconomicsFile:
        seen: dict[tuple[str | None, str | None, str | None], int] = {}
        for number, rule in enumerate(self.revenue, start=1):
            if rule.keys in seen:
                raise ValueError(
                    f"revenue rules {seen[rule.keys]} and {number} name the same tenant, feature and route: "
                    "keep one of them"
                )
            seen[rule.keys] = number
        for experiment_id, experiment in self.experiments.items():
            if experiment.control == experiment_id:
                raise ValueError(
                    f"experiment {experiment_id!r} names itself as its control: "
                    f"name another experiment, or {UNTAGGED!r}"
                )
        return self


@dataclass(frozen=True, slots=True)
class Economics:
    """What the questions need to know besides the logs.

    Attributes:
        file: the validated content; without a file, nothing known and the default thresholds.
        hash: the first 16 hex digits of the SHA-256 of the file's text; `none` without a file.
        source: the file's name, for messages.
    """

    file: EconomicsFile = field(default_factory=EconomicsFile)
    hash: str = NO_ECONOMICS_HASH
    source: str = "no economics.yaml"


NO_ECONOMICS = Economics()


def load_economics(source: str | os.PathLike[str] | Mapping[str, Any] | None) -> Economics:
    """Economics from a file, a mapping, or None (nothing known).

    Raises:
        BadInput: naming file, line, key and the fix, one line per mistake.
    """
    if source is None:
        return NO_ECONOMICS
    if isinstance(source, Mapping):
        return parse_economics(yaml.safe_dump(dict(source), sort_keys=False), "economics mapping")
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"{path}: cannot be read as UTF-8 text: {exc}") from exc
    return parse_economics(text, str(path))


def parse_economics(text: str, source: str) -> Economics:
    """`load_economics` for the text of a file; `source` names it in messages."""
    kind = f"economics is a mapping with {', '.join(EconomicsFile.model_fields)}"
    file = parse_strict_yaml(text, source, kind=kind, refuse=BadInput, may_be_empty=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Economics(validated(file, EconomicsFile, refuse=BadInput), digest, source)


def bind_economics(con: duckdb.DuckDBPyConnection, economics: Economics) -> None:
    """Lay the economics out as the temporary tables that the SQL reads, replacing earlier ones:
    `economics_revenue` and `economics_experiments`."""
    load_sql("marts/economics_tables").execute(con)
    insert_revenue = load_sql("marts/economics_insert_revenue")
    for number, rule in enumerate(economics.file.revenue, start=1):
        insert_revenue.execute(
            con,
            rule_number=number,
            tenant_id=rule.tenant_id,
            feature_id=rule.feature_id,
            route_name=rule.route_name,
            revenue_per_request_usd=quantise(rule.revenue_per_request_usd),
        )
    insert_experiment = load_sql("marts/economics_insert_experiment")
    for experiment_id, experiment in economics.file.experiments.items():
        insert_experiment.execute(con, experiment_id=experiment_id, control_id=experiment.control)
