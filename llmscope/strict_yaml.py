"""Configuration files: YAML of which every mistake is told with its line and what to do about it.

What does not belong here: what any one file may say (its own module has the pydantic model).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")

# How pydantic marks that it is the key of a mapping which is wrong, not its value.
_OF_A_KEY = "[key]"
_MOST_SHOWN = 80
# More than any file that people write; a bomb of nine lines unfolds to a billion.
_MOST_VALUES = 100_000
# `050` is 40 and `1:30` is 90: YAML 1.1, chapter "int".
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MISREAD = re.compile(r"[-+]?0[0-9_]*[1-9][0-9_]*|[-+]?[0-9_]+(:[0-9_.]+)+")
_WITH_EXPONENT = re.compile(r"[-+]?[0-9_.]+[eE][-+]?[0-9]+")
# What PyYAML raises besides its own errors: a number of 5,000 digits, the 45th of a month, `!!bool maybe`.
_UNREADABLE_VALUE = (ValueError, KeyError, AttributeError, TypeError, OverflowError)

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
            elif index + 1 < len(loc) or part == _OF_A_KEY or not isinstance(data, (dict, list)):
                continue
            location.append(part)
        return tuple(location)

    def mistakes(self, errors: Iterable[Any]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
        """Each of pydantic's errors with its location in the file, one per location: of a union every branch
        complains."""
        seen = set()
        for error in errors:
            location = self.location_of(error["loc"])
            if location not in seen:
                seen.add(location)
                yield error, location


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
        _Nodes(source, refuse).unfolded(root)
        data = _values_of(text, source, refuse)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise refuse(f"{source}:{line}: not valid YAML: {exc.problem or exc.context}") from exc
    except yaml.YAMLError as exc:
        raise refuse(f"{source}: not valid YAML: {exc}") from exc
    except RecursionError as exc:
        raise refuse(f"{source}: nested too deeply: {kind}") from exc
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
        for error, location in file.mistakes(exc.errors()):
            place = told_place(location) if told_place is not None else ""
            fix = fix_of(error, told_key(location), known_keys(schema, file, location[:-1]))
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
    shown = _shown(found)
    if error["loc"] and error["loc"][-1] == _OF_A_KEY:
        return f"the key {shown} must be text: put quotes around it."
    if kind == "literal_error":
        choices = [choice.strip(" '") for choice in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return _sentences(
            f"{key}: found {shown}.",
            suggestion(str(found), choices),
            f"Write one of: {', '.join(choices)}.",
        )
    if kind == "value_error":
        return f"{error['ctx']['error']}"
    if kind == "string_type":
        return f"{key}: found {shown}; it must be text, put quotes around it."
    if kind in ("tuple_type", "list_type"):
        return f"{key}: found {shown}; it must be a list, as in [a, b]."
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return f"{key}: found {shown}; it must be a mapping, as in {{a: b}}."
    if kind in ("float_type", "int_type") and isinstance(found, str):
        if _WITH_EXPONENT.fullmatch(found):
            return f"{key}: found {shown}, which YAML takes for text; write the number out, without exponent."
        return f"{key}: found the text {shown}; write the number without quotes."
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{key}: found {shown}; {message}."


def _shown(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def told_key(location: tuple[Any, ...]) -> str:
    """A key as a person finds it: `kinds[0]` for the first item of a list."""
    if location and isinstance(location[-1], int):
        return f"{told_key(location[:-1])}[{location[-1]}]"
    return str(location[-1]) if location else ""


def _sentences(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def suggestion(word: str, choices: Sequence[str]) -> str:
    """`Did you mean …?` for a word that is close to one of `choices`, else nothing."""
    close = difflib.get_close_matches(word, choices, n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


def _values_of(text: str, source: str, refuse: Refusal) -> Any:
    try:
        return yaml.safe_load(text)
    except _UNREADABLE_VALUE as exc:
        raise refuse(
            f"{source}: not valid YAML: a value cannot be read as what it looks like: {exc}"
        ) from exc


class _Nodes:
    """What is looked at before a file's values are: keys, aliases, numbers that are not what they seem."""

    def __init__(self, source: str, refuse: Refusal) -> None:
        self._source = source
        self._refuse = refuse
        self._sizes: dict[yaml.Node, int | None] = {}

    def unfolded(self, node: yaml.Node) -> int:
        """How many values the node holds, those behind aliases counted each time.

        Raises:
            Exception: a key stands twice or is no plain text, an alias holds itself, aliases unfold to more
                than anybody wrote, or a number reads otherwise than a person would.
        """
        if node in self._sizes:
            size = self._sizes[node]
            if size is None:
                raise self._refused(node, "the alias holds itself: write out what is meant")
            return size
        self._sizes[node] = None
        size = 1
        if isinstance(node, yaml.MappingNode):
            self._look_at_keys(node)
            size += sum(self.unfolded(key) + self.unfolded(value) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            size += sum(self.unfolded(child) for child in node.value)
        elif node.tag in _NUMBERS and _MISREAD.fullmatch(node.value):
            raise self._refused(
                node,
                f"YAML reads {node.value} in base {60 if ':' in node.value else 8}: write the number without "
                f"{'colons' if ':' in node.value else 'zeros before it'}, or text in quotes",
            )
        if size > _MOST_VALUES:
            raise self._refused(node, f"its aliases unfold to more than {_MOST_VALUES:,} values")
        self._sizes[node] = size
        return size

    def _look_at_keys(self, node: yaml.MappingNode) -> None:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise self._refused(key, "a key is one word or text, not a list or a mapping")
            if key.value in seen:
                raise self._refused(
                    key,
                    f"the key {key.value!r} stands twice (first on line {seen[key.value]}): "
                    "merge or rename one of them",
                )
            seen[key.value] = line

    def _refused(self, node: yaml.Node, why: str) -> Exception:
        return self._refuse(f"{self._source}:{node.start_mark.line + 1}: {why}")
