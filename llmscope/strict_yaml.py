"""Configuration files: YAML of which every mistake is told with its line and what to do about it.

What does not belong here: what any one file may say (its own module has the pydantic model).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")

Refusal = Callable[[str], Exception]
"""Makes the error to raise from a message; usually an exception class."""


@dataclass(frozen=True, slots=True)
class StrictYaml:
    """The text of one file, parsed.

    Attributes:
        data: its content as plain values.
        root: its nodes, which know their lines.
        source: the file's name, for messages.
    """

    data: dict[Any, Any]
    root: yaml.Node
    source: str

    def line_of(self, location: Sequence[Any]) -> int:
        """The line (from 1) of the node at `location`, a path of keys and indices, or of the deepest one
        on the way that exists."""
        node, line = self.root, self.root.start_mark.line + 1
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

    def at(self, location: Sequence[Any]) -> Any:
        """The value at `location`, None where there is none."""
        data: Any = self.data
        for part in location:
            try:
                data = data[part]
            except (KeyError, IndexError, TypeError):
                return None
        return data

    def location_of(self, loc: Sequence[Any]) -> tuple[Any, ...]:
        """Where in the file one of pydantic's `loc` is: it also names the branches of unions, which are
        no keys."""
        location: list[Any] = []
        data: Any = self.data
        for index, part in enumerate(loc):
            is_here = (isinstance(data, dict) and part in data) or (
                isinstance(data, list) and isinstance(part, int) and part < len(data)
            )
            if is_here:
                data = data[part]
            elif index + 1 < len(loc):
                continue
            location.append(part)
        return tuple(location)


def known_keys(schema: dict[str, Any], file: StrictYaml, location: Sequence[Any]) -> list[str]:
    """Which keys a JSON Schema allows in the mapping at `location`, sorted; of a union, those of the
    branch that the mapping's discriminator names."""

    def resolved(node: dict[str, Any], data: Any) -> dict[str, Any]:
        while True:
            if "$ref" in node:
                node = schema["$defs"][node["$ref"].rpartition("/")[2]]
            elif "discriminator" in node:
                rule = node["discriminator"]
                tag = data.get(rule["propertyName"]) if isinstance(data, dict) else None
                if tag not in rule["mapping"]:
                    return {}
                node = {"$ref": rule["mapping"][tag]}
            elif "anyOf" in node:
                node = next((branch for branch in node["anyOf"] if branch.get("type") != "null"), {})
            else:
                return node

    node = resolved(schema, file.data)
    for index, part in enumerate(location):
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
        node = resolved(node if isinstance(node, dict) else {}, file.at(location[: index + 1]))
    return sorted(node.get("properties", {}))


def parse_strict_yaml(
    text: str, source: str, *, kind: str, refuse: Refusal, may_be_empty: bool = False
) -> StrictYaml:
    """Parse a file that must be one mapping in which no key stands twice.

    Args:
        source: the file's name, for messages.
        kind: what the file is, for messages: "a policy is a mapping with `namespaces:`".
        refuse: makes the error.
        may_be_empty: take a file without content as an empty mapping.

    Raises:
        Exception: of `refuse`, naming file, line and fix.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None and may_be_empty:
            return StrictYaml({}, yaml.MappingNode("", [], yaml.Mark(source, 0, 0, 0, "", 0)), source)
        if root is None:
            raise refuse(f"{source}: the file is empty; {kind}")
        _refuse_duplicate_keys(root, source, refuse)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise refuse(f"{source}:{line}: not valid YAML: {exc.problem or exc.context}") from exc
    except yaml.YAMLError as exc:
        raise refuse(f"{source}: not valid YAML: {exc}") from exc
    if not isinstance(data, dict):
        raise refuse(f"{source}:1: {kind}, found {type(data).__name__}")
    return StrictYaml(data, root, source)


def read_strict_yaml(
    path: str | os.PathLike[str], *, kind: str, refuse: Refusal, may_be_empty: bool = False
) -> StrictYaml:
    """`parse_strict_yaml` for a file.

    Raises:
        Exception: of `refuse`; also when the file is not there or is no UTF-8 text.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise refuse(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise refuse(f"{path}: cannot be read as UTF-8 text: {exc}") from exc
    return parse_strict_yaml(text, str(path), kind=kind, refuse=refuse, may_be_empty=may_be_empty)


def validated(
    file: StrictYaml,
    model: type[Model],
    *,
    refuse: Refusal,
    told_place: Callable[[tuple[Any, ...]], str] | None = None,
) -> Model:
    """The content of a file as an instance of its pydantic model.

    Args:
        told_place: what to say of a location besides file and line (`, route '/chat'`).

    Raises:
        Exception: of `refuse`, one line per mistake: file, line, place, fix.
    """
    from pydantic import ValidationError  # noqa: PLC0415  for who has a model already

    try:
        return model.model_validate(file.data)
    except ValidationError as exc:
        schema = model.model_json_schema()
        mistakes = []
        for error in exc.errors():
            location = file.location_of(error["loc"])
            place = told_place(location) if told_place is not None else ""
            fix = fix_of(error, _told_key(location), known_keys(schema, file, location[:-1]))
            mistakes.append(f"{file.source}:{file.line_of(location)}{place}: {fix}")
        raise refuse("\n".join(mistakes)) from exc


def fix_of(error: Any, key: str, possible: Sequence[str]) -> str:
    """What to do about one of pydantic's errors at `key`, in a sentence.

    Args:
        error: an item of `ValidationError.errors()`.
        possible: which keys are possible beside it.
    """
    kind, found = error["type"], error.get("input")
    if kind == "extra_forbidden":
        return _sentences(
            f"unknown key {key!r}.", suggestion(key, possible), f"Possible here: {', '.join(possible)}."
        )
    if kind == "missing":
        return f"`{key}` is missing: add it."
    if kind == "literal_error":
        choices = [choice.strip(" '") for choice in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return _sentences(
            f"{key}: found {found!r}.",
            suggestion(str(found), choices),
            f"Write one of: {', '.join(choices)}.",
        )
    if kind == "value_error":
        return f"{error['ctx']['error']}"
    if kind == "string_type":
        return f"{key}: found {found!r}; it must be text, put quotes around it."
    if kind in ("float_type", "int_type") and isinstance(found, str):
        return f"{key}: found the text {found!r}; write the number without quotes."
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{key}: found {found!r}; {message}."


def _told_key(location: tuple[Any, ...]) -> str:
    """A key as a person finds it: `kinds[0]` for the first item of a list."""
    if location and isinstance(location[-1], int):
        return f"{_told_key(location[:-1])}[{location[-1]}]"
    return str(location[-1]) if location else ""


def _sentences(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def suggestion(word: str, choices: Sequence[str]) -> str:
    """`Did you mean …?` for a word that is close to one of `choices`, else nothing."""
    close = difflib.get_close_matches(word, choices, n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


def _refuse_duplicate_keys(node: yaml.Node, source: str, refuse: Refusal) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise refuse(
                    f"{source}:{line}: the key {key.value!r} stands twice (first on line {seen[key.value]}): "
                    "merge or rename one of them"
                )
            seen[key.value] = line
            _refuse_duplicate_keys(value, source, refuse)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_duplicate_keys(child, source, refuse)
