"""A YAML file that an operator writes, read into a pydantic model without guessing what was meant.

Duplicate keys, unknown fields and values out of bounds are errors that name the file, the line, the field, the
value and the limit. Aliases are refused: a few lines of them can stand for gigabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from shared.errors import PolicyError

MAX_BYTES = 1 << 20  # a ConfigMap holds no more
MAX_SHOWN = 80  # characters of a value in an error
_WORDS = {  # in the terms of YAML
    "missing": "is required",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "mapping_type": "must be a mapping",
    "tuple_type": "must be a list",
}

# What PyYAML lets out besides its own: impossible dates, deep nesting, and tags whose values do not fit.
_UNREADABLE = (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError)

_NOT_IN_FILE = ("[key]", "[word]", "[option]")  # parts of pydantic's places, and tags of our own unions

Place = Sequence[str | int]  # field names and list indices from the top of the file
AnyModel = TypeVar("AnyModel", bound=BaseModel)


def problem(words: str, *place: str | int) -> PydanticCustomError:
    """What a validator raises; `place` leads from the value it checks to the one at fault."""
    return PydanticCustomError("problem", "{words}", {"words": words, "place": place})


class Section(BaseModel):
    """A mapping of the file. No other fields than these, and no value that would need conversion."""

    model_config = ConfigDict(frozen=True, strict=True, json_schema_extra={"additionalProperties": False})

    @model_validator(mode="before")
    @classmethod
    def _knows_all(cls, fields: Any) -> Any:
        known = [info.alias or name for name, info in cls.model_fields.items()]
        for name in fields if isinstance(fields, Mapping) else ():
            if name not in known:
                raise problem(f"no such field; there are {', '.join(known)}", str(name))
        return fields


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases and duplicate keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not supported", problem_mark=mark)
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.MappingNode):
            _refuse_duplicates(node)
        return node


def _refuse_duplicates(mapping: yaml.MappingNode) -> None:
    seen: set[tuple[str, str]] = set()
    for key, _ in mapping.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value[:MAX_SHOWN]!r} is given twice", problem_mark=key.start_mark
                )
            seen.add((key.tag, key.value))


@dataclass(frozen=True, slots=True)
class YamlFile:
    """What a file holds, and where."""

    path: Path
    root: yaml.Node
    content: Any

    @classmethod
    def read(cls, path: Path) -> YamlFile:
        """Raises PolicyError for a file that cannot be read, is too large or is not the YAML accepted here."""
        return cls.parse(path, read_bytes(path))

    @classmethod
    def parse(cls, path: Path, data: bytes) -> YamlFile:
        """What a file held when it was read. Raises PolicyError."""
        if len(data) > MAX_BYTES:
            raise PolicyError(f"{path}: has more than {MAX_BYTES} bytes")
        try:
            loader = _Loader(data)
            root = loader.get_single_node()
            content = loader.construct_document(root) if root is not None else None
        except yaml.MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise PolicyError(f"{path}{line}: {error.problem}") from None
        except _UNREADABLE as error:
            raise PolicyError(f"{path}: not YAML ({' '.join(str(error).split())[:MAX_SHOWN]})") from None
        if root is None:
            raise PolicyError(f"{path}: the file is empty")
        return cls(path, root, content)

    def model(self, kind: type[AnyModel]) -> AnyModel:
        """The content as this model. Raises PolicyError for the first value that does not fit."""
        try:
            return kind.model_validate(self.content)
        except ValidationError as error:
            first = error.errors()[0]
            place = [part for part in first["loc"] if part not in _NOT_IN_FILE]
            words = _WORDS.get(first["type"], first["msg"])
            raise self.error([*place, *first.get("ctx", {}).get("place", ())], words) from None

    def line(self, *place: str | int) -> int:
        """Of the field at a place, or of the nearest one around it; from 1."""
        return _find(self.root, place)[0]

    def error(self, place: Place, words: str) -> PolicyError:
        """`FILE, line N: field='value': words`; the line of the nearest enclosing field where there is no such."""
        line, found = _find(self.root, place)
        shown = f"={found.value[:MAX_SHOWN]!r}" if isinstance(found, yaml.ScalarNode) else ""
        field = f"{'.'.join(map(_name, place))}{shown}: " if place else ""
        return PolicyError(f"{self.path}, line {line}: {field}{words}")


def read_bytes(path: Path) -> bytes:
    """At most a byte more than a file may have. Raises PolicyError."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read ({error.strerror or error})") from None


def _name(part: str | int) -> str:
    """As written, or escaped where that would not stay on one line."""
    text = str(part)[:MAX_SHOWN]
    return text if text.isprintable() else ascii(text)


def _find(node: yaml.Node, place: Place) -> tuple[int, yaml.Node | None]:
    """Line (from 1) and node at a place; without such a node the last line on the way, and None."""
    line = node.start_mark.line + 1
    for part in place:
        entries = _entries(node)
        if str(part) not in entries:
            return line, None
        line, node = entries[str(part)]
    return line, node


def _entries(node: yaml.Node) -> dict[str, tuple[int, yaml.Node]]:
    """Line and value by name, or by index in a list."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): (key.start_mark.line + 1, value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return {str(index): (item.start_mark.line + 1, item) for index, item in enumerate(node.value)}
    return {}
