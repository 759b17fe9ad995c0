"""Reading policy files: YAML with the line of every mistake, and what to do about it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from llmscope.strict_yaml import StrictYaml, fix_of, parse_strict_yaml, suggestion, told_key
from policy_runtime.errors import PolicyFileError
from policy_runtime.policy import (
    BudgetThreshold,
    CostAnomaly,
    DuplicateRule,
    ModelAllowlist,
    Policy,
    RateLimit,
    RoutePreference,
    TokenLimit,
)
from policy_runtime.quotes import known_tiers

PACKAGED_POLICY = "version: 1\nnamespaces:\n  default:\n    rules: []\n"
_PRIMITIVES = {
    model.model_fields["primitive"].annotation.__args__[0]: model  # type: ignore[union-attr]
    for model in (BudgetThreshold, RoutePreference, CostAnomaly, RateLimit, TokenLimit, ModelAllowlist)
}


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy together with the text it came from.

    Attributes:
        policy: the validated policy.
        text: the file's text as read (or the YAML of a mapping).
        hash: the first 16 hex digits of the SHA-256 of the text.
        source: the file's name, for messages.
        path: the file, None when the policy was given as a value.
    """

    policy: Policy
    text: str
    hash: str
    source: str
    path: Path | None = None


def load_policy(source: str | os.PathLike[str] | Mapping[str, Any] | Policy | None) -> LoadedPolicy:
    """Load a policy from a file, a mapping, a `Policy`, or None (the packaged one, without rules).

    Raises:
        PolicyFileError: naming file, line, namespace, rule and the fix, one paragraph per mistake.
    """
    if source is None:
        return parse_policy(PACKAGED_POLICY, "packaged policy")
    if isinstance(source, Policy):
        text = yaml.safe_dump(source.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
        return LoadedPolicy(source, text, _hash(text), "policy object")
    if isinstance(source, Mapping):
        try:
            text = yaml.safe_dump(dict(source), sort_keys=False)
        except yaml.YAMLError as exc:
            what = " ".join(map(str, exc.args))
            raise PolicyFileError(
                f"policy mapping: {what}; a policy is made of text, numbers, lists and mappings only"
            ) from exc
        return parse_policy(text, "policy mapping")
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PolicyFileError(f"{path}: there is no such policy file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise PolicyFileError(f"{path}: cannot be read as UTF-8 text: {exc}") from exc
    return parse_policy(text, str(path), path)


def parse_policy(text: str, source: str, path: Path | None = None) -> LoadedPolicy:
    """`load_policy` for the text of a file; `source` names it in messages."""
    file = parse_strict_yaml(
        text, source, kind="a policy is a mapping with `namespaces:`", refuse=PolicyFileError
    )
    try:
        policy = Policy.model_validate(file.data)
    except ValidationError as exc:
        mistakes = [_explain(error, location, file) for error, location in file.mistakes(exc.errors())]
        raise PolicyFileError("\n".join(mistakes)) from exc
    _refuse_unknown_tiers(policy, file)
    return LoadedPolicy(policy, text, _hash(text), source, path)


def policy_json_schema() -> dict[str, Any]:
    """The JSON Schema of policy files, for editors' completion and checks."""
    return Policy.model_json_schema()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _refuse_unknown_tiers(policy: Policy, file: StrictYaml) -> None:
    """A downgrade to a tier that nothing defines would never happen: refuse it at load."""
    tiers = known_tiers(policy)
    for name, namespace in policy.namespaces.items():
        for index, rule in enumerate(namespace.rules):
            if isinstance(rule, BudgetThreshold) and rule.action == "downgrade":
                key, tier = "downgrade_to_tier", rule.downgrade_to_tier
            elif isinstance(rule, RoutePreference):
                key, tier = "prefer_tier", rule.prefer_tier
            else:
                continue
            if tier not in tiers:
                line = file.line_of(("namespaces", name, "rules", index, key))
                raise PolicyFileError(
                    f"{file.source}:{line}: namespace {name!r}, rule {rule.id!r}: {key}: "
                    f"no tier is named {tier!r}. {suggestion(tier, sorted(tiers))} "
                    f"Known tiers: {', '.join(sorted(tiers))}; others are defined under `tiers:`."
                )


def _explain(error: Any, location: tuple[Any, ...], file: StrictYaml) -> str:
    """One validation error as: file:line: namespace, rule: key: what was found, and the fix."""
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, DuplicateRule):
        location = (*location, "rules", cause.index, "id")
    place = [f"{file.source}:{file.line_of(location)}"]
    if len(location) > 1 and location[0] == "namespaces":
        place.append(f"namespace {location[1]!r}")
    rule = None
    if len(location) > 3 and location[2] == "rules" and isinstance(location[3], int):
        rule = file.at(location[:4])
        rule_id = rule.get("id") if isinstance(rule, dict) else None
        place.append(f"rule {rule_id!r}" if rule_id else f"rule number {location[3] + 1}")
    return f"{', '.join(place)}: {_fix(error, told_key(location), rule)}"


def _fix(error: Any, key: str, rule: Any) -> str:
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        found = error.get("input")
        tag = found.get("primitive") if isinstance(found, dict) else None
        known = sorted(_PRIMITIVES)
        said = f"unknown primitive {tag!r}" if tag else "a rule needs `primitive`"
        close = suggestion(str(tag), known)
        return f"{said}. {close}{' ' if close else ''}Primitives: {', '.join(known)}."
    model: Any = Policy
    if isinstance(rule, dict):
        model = _PRIMITIVES.get(rule.get("primitive", ""), Policy)
    return fix_of(error, key, sorted(model.model_fields))
