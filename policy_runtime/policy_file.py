"""Reading policy files: YAML with the line of every mistake, and what to do about it."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from policy_runtime.errors import PolicyFileError
from policy_runtime.policy import (
    BudgetThreshold,
    CostAnomaly,
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
        return parse_policy(yaml.safe_dump(dict(source), sort_keys=False), "policy mapping")
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
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise PolicyFileError(f"{source}: the file is empty; it needs at least `namespaces:`")
        _refuse_duplicate_keys(root, source)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise PolicyFileError(f"{source}:{line}: not valid YAML: {exc.problem or exc.context}") from exc
    except yaml.YAMLError as exc:
        raise PolicyFileError(f"{source}: not valid YAML: {exc}") from exc
    if not isinstance(data, dict):
        raise PolicyFileError(
            f"{source}:1: a policy is a mapping with `namespaces:`, found {type(data).__name__}"
        )
    try:
        policy = Policy.model_validate(data)
    except ValidationError as exc:
        mistakes = [_explain(error, root, data, source) for error in exc.errors()]
        raise PolicyFileError("\n".join(mistakes)) from exc
    _refuse_unknown_tiers(policy, root, source)
    return LoadedPolicy(policy, text, _hash(text), source, path)


def policy_json_schema() -> dict[str, Any]:
    """The JSON Schema of policy files, for editors' completion and checks."""
    return Policy.model_json_schema()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _refuse_duplicate_keys(node: yaml.Node, source: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise PolicyFileError(
                    f"{source}:{line}: the key {key.value!r} stands twice (first on line {seen[key.value]}): "
                    "merge or rename one of them"
                )
            seen[key.value] = line
            _refuse_duplicate_keys(value, source)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_duplicate_keys(child, source)


def _refuse_unknown_tiers(policy: Policy, root: yaml.Node, source: str) -> None:
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
                line = _line_of(root, ("namespaces", name, "rules", index, key))
                raise PolicyFileError(
                    f"{source}:{line}: namespace {name!r}, rule {rule.id!r}: {key}: "
                    f"no tier is named {tier!r}. {_suggest(tier, sorted(tiers))} "
                    f"Known tiers: {', '.join(sorted(tiers))}; others are defined under `tiers:`."
                )


def _explain(error: Any, root: yaml.Node, data: Any, source: str) -> str:
    """One validation error as: file:line: namespace, rule: key: what was found, and the fix."""
    location = tuple(part for part in error["loc"] if part not in _PRIMITIVES)
    place = [f"{source}:{_line_of(root, location)}"]
    if len(location) > 1 and location[0] == "namespaces":
        place.append(f"namespace {location[1]!r}")
    rule = None
    if len(location) > 3 and location[2] == "rules" and isinstance(location[3], int):
        rule = _at(data, location[:4])
        rule_id = rule.get("id") if isinstance(rule, dict) else None
        place.append(f"rule {rule_id!r}" if rule_id else f"rule number {location[3] + 1}")
    key = str(location[-1]) if location else ""
    return f"{', '.join(place) if len(place) > 1 else place[0]}: {_fix(error, key, rule)}"


def _fix(error: Any, key: str, rule: Any) -> str:
    kind, found = error["type"], error.get("input")
    if kind == "extra_forbidden":
        model: Any = Policy
        if isinstance(rule, dict):
            model = _PRIMITIVES.get(rule.get("primitive", ""), Policy)
        known = sorted(model.model_fields)
        return f"unknown key {key!r}. {_suggest(key, known)} Possible here: {', '.join(known)}."
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = found.get("primitive") if isinstance(found, dict) else None
        known = sorted(_PRIMITIVES)
        said = f"unknown primitive {tag!r}" if tag else "a rule needs `primitive`"
        return f"{said}. {_suggest(str(tag), known)} Primitives: {', '.join(known)}."
    if kind == "missing":
        return f"`{key}` is missing: add it."
    if kind == "literal_error":
        choices = [choice.strip(" '") for choice in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"{key}: found {found!r}. {_suggest(str(found), choices)} Write one of: {', '.join(choices)}."
    if kind == "value_error":
        return f"{error['ctx']['error']}"
    if kind in ("float_type", "int_type") and isinstance(found, str):
        return f"{key}: found the text {found!r}; write the number without quotes."
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{key}: found {found!r}; {message}."


def _suggest(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


def _at(data: Any, location: tuple[Any, ...]) -> Any:
    for part in location:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _line_of(root: yaml.Node, location: tuple[Any, ...]) -> int:
    """The line of the node at `location`, or of the deepest one on the way that exists."""
    node, line = root, root.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
