"""How one field of a message looks on the wire, and what it may hold.

A message declares each field with one of the functions below; ``check`` runs when a message is built
(`shared.field_checks`), ``codec`` uses ``pack`` and ``unpack``. Columns are numpy arrays that travel as raw
little-endian bytes. Every column has an axis, one of MAX_AXIS: all columns of one axis have one length. A ragged
axis is described by its offsets column of rows + 1 entries.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

MAX_AXIS = {
    "row": 4096,
    "token": 1 << 21,
    "node": 1 << 18,
    "trace": 4096,
    "inspect": 4096,
    "bias": 1024,
    "byte": 1 << 22,
    # of what is told of one request's iteration, and of one verifier (shared.inspection)
    "candidate": 256,
    "chosen": 256,
    "accepted": 64,
    "drawn": 65,
    "depth": 8,
    "live": 100,
}


class FieldError(ValueError):
    """A value outside what its field may hold; the text names the limit, never the value."""


class Spec(Protocol):
    """The wire form of one field. ``check`` and ``unpack`` raise FieldError."""

    def check(self, value: Any) -> None: ...
    def pack(self, value: Any) -> Any: ...
    def unpack(self, raw: Any) -> Any: ...


class Plain(ABC):
    """A value that msgpack carries as it is."""

    __slots__ = ()

    @abstractmethod
    def check(self, value: Any) -> None: ...

    def pack(self, value: Any) -> Any:
        return value

    def unpack(self, raw: Any) -> Any:
        return raw


@dataclass(frozen=True, slots=True)
class Text(Plain):
    """A string of at most ``limit`` UTF-8 bytes."""

    limit: int = 256

    def check(self, value: Any) -> None:
        if type(value) is not str or len(value.encode()) > self.limit:
            raise FieldError(f"must be text of at most {self.limit} bytes")


@dataclass(frozen=True, slots=True)
class LongText:
    """A string of at most ``limit`` UTF-8 bytes that travels as bytes: the codec keeps text short."""

    limit: int

    def check(self, value: Any) -> None:
        Text(self.limit).check(value)

    def pack(self, value: Any) -> bytes:
        packed: bytes = value.encode()
        return packed

    def unpack(self, raw: Any) -> str:
        if type(raw) is not bytes:
            raise FieldError("must be bytes")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise FieldError("must be UTF-8") from None


@dataclass(frozen=True, slots=True)
class Integer(Plain):
    """A whole number, low <= value <= high. A bool is not a number."""

    low: int = 0
    high: int = 2**31 - 1

    def check(self, value: Any) -> None:
        if type(value) is not int or not self.low <= value <= self.high:
            raise FieldError(f"must be a whole number from {self.low} to {self.high}")


@dataclass(frozen=True, slots=True)
class Number(Plain):
    """A float, low <= value <= high; NaN is refused, infinity only where a bound is infinite."""

    low: float = 0.0
    high: float = float("inf")

    def check(self, value: Any) -> None:
        if type(value) is not float or not self.low <= value <= self.high:
            raise FieldError(f"must be a number from {self.low} to {self.high}")


@dataclass(frozen=True, slots=True)
class Flag(Plain):
    """true or false."""

    def check(self, value: Any) -> None:
        if type(value) is not bool:
            raise FieldError("must be true or false")


@dataclass(frozen=True, slots=True)
class Blob(Plain):
    """Exactly ``size`` bytes."""

    size: int

    def check(self, value: Any) -> None:
        if type(value) is not bytes or len(value) != self.size:
            raise FieldError(f"must be {self.size} bytes")


@dataclass(frozen=True, slots=True)
class Bytes(Plain):
    """At most ``limit`` bytes."""

    limit: int

    def check(self, value: Any) -> None:
        if type(value) is not bytes or len(value) > self.limit:
            raise FieldError(f"must be at most {self.limit} bytes")


@dataclass(frozen=True, slots=True)
class Maybe(Plain):
    """None or what ``inner`` accepts."""

    inner: Plain

    def check(self, value: Any) -> None:
        if value is not None:
            self.inner.check(value)


@dataclass(frozen=True, slots=True)
class Several:
    """A tuple of at most ``limit`` values of one kind."""

    inner: Plain
    limit: int

    def check(self, value: Any) -> None:
        if type(value) is not tuple or len(value) > self.limit:
            raise FieldError(f"must be a list of at most {self.limit}")
        for item in value:
            self.inner.check(item)

    def pack(self, value: Any) -> Any:
        return list(value)

    def unpack(self, raw: Any) -> Any:
        if type(raw) is not list:
            raise FieldError("must be a list")
        return tuple(raw)


_HEADER_BYTES = 9  # of msgpack's longest: a number of 8 bytes
_NAME = Text(64)


@dataclass(frozen=True, slots=True)
class Table(Plain):
    """A map from short names to plain values, at most ``limit`` of them."""

    value: Plain
    limit: int = 64

    def check(self, value: Any) -> None:
        if type(value) is not dict or len(value) > self.limit:
            raise FieldError(f"must be a map of at most {self.limit} entries")
        for name, item in value.items():
            _NAME.check(name)
            self.value.check(item)


class Column:
    """A numpy array of one dtype along one axis; float columns hold no NaN."""

    __slots__ = ("_is_float", "axis", "dtype", "is_offsets")

    def __init__(self, dtype: Any, axis: str, *, is_offsets: bool = False) -> None:
        native, little = np.dtype(dtype), np.dtype(dtype).newbyteorder("<")
        self.dtype = native if native == little else little  # as a rule the very object that arrays have
        self.axis = axis
        self.is_offsets = is_offsets
        self._is_float = self.dtype.kind == "f"

    def check(self, value: Any) -> None:
        is_array = isinstance(value, np.ndarray) and (value.dtype is self.dtype or value.dtype == self.dtype)
        if not is_array or value.ndim != 1:
            raise FieldError(f"must be a one-dimensional {self.dtype.name} array")
        self.check_values(value)

    def check_values(self, value: Any) -> None:
        """`check` of a column that has the form."""
        if self._is_float and value.size and (least := np.minimum.reduce(value)) != least:  # NaN if one is
            raise FieldError("must not hold NaN")

    def pack(self, value: Any) -> bytes:
        packed: bytes = value.tobytes()
        return packed

    def unpack(self, raw: Any) -> Any:
        if type(raw) is not bytes or len(raw) % self.dtype.itemsize:
            raise FieldError(f"must be bytes, a multiple of {self.dtype.itemsize}")
        return np.frombuffer(raw, self.dtype)


def declared(spec: Spec, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field whose wire form is ``spec``."""
    return dataclasses.field(default=default, metadata={"spec": spec})


def optional(spec: Spec, default: Any) -> Any:
    """A field that is left out of the body at its default: releases that do not know it still read the rest."""
    return dataclasses.field(default=default, metadata={"spec": spec, "optional": True})


def optional_column(dtype: Any, axis: str) -> Any:
    """A column that is left out of the body where it is empty, which is its default."""
    return dataclasses.field(
        default_factory=lambda: np.empty(0, dtype), metadata={"spec": Column(dtype, axis), "optional": True}
    )


def column(dtype: Any, axis: str = "row") -> Any:
    """A column field: ``dtype`` array along ``axis``."""
    return declared(Column(dtype, axis))


def offsets(axis: str) -> Any:
    """The offsets field that cuts a ragged ``axis`` into rows: int32 [rows + 1]."""
    return declared(Column(np.int32, axis, is_offsets=True))


def max_bytes(spec: Spec) -> int:
    """Bytes of the largest value on the wire, with its header."""
    match spec:
        case Text(limit) | LongText(limit) | Bytes(limit) | Blob(limit):
            return int(limit) + _HEADER_BYTES
        case Integer() | Number() | Flag():
            return _HEADER_BYTES
        case Maybe(inner):
            return max_bytes(inner)
        case Several(inner, limit):
            return _HEADER_BYTES + limit * max_bytes(inner)
        case Table(inner, limit):
            return _HEADER_BYTES + limit * (max_bytes(_NAME) + max_bytes(inner))
        case Column():
            num_more = 1 if spec.is_offsets else 0
            axis = "row" if spec.is_offsets else spec.axis
            width: int = spec.dtype.itemsize
            return _HEADER_BYTES + (MAX_AXIS[axis] + num_more) * width
    raise TypeError(f"no size is known of {spec}")


def max_text_bytes(spec: Spec) -> int:
    """Bytes of the longest string in a value, 0 where there is none."""
    match spec:
        case Text():
            return spec.limit
        case Maybe(inner) | Several(inner, _):
            return max_text_bytes(inner)
        case Table(inner, _):
            return max(_NAME.limit, max_text_bytes(inner))
    return 0


_specs: dict[type, dict[str, Spec]] = {}


def specs_of(message_type: type) -> dict[str, Spec]:
    """Field name -> spec of a message class, in declaration order."""
    specs = _specs.get(message_type)
    if specs is None:
        specs = {field.name: field.metadata["spec"] for field in dataclasses.fields(message_type)}
        _specs[message_type] = specs
    return specs


_nothing: dict[type, dict[str, Any]] = {}


def nothing_of(message_type: type) -> dict[str, Any]:
    """Of each optional field the wire form of its default, which is not sent."""
    nothing = _nothing.get(message_type)
    if nothing is None:
        nothing = _nothing[message_type] = {
            field.name: field.metadata["spec"].pack(default_of(field)) for field in optionals_of(message_type)
        }
    return nothing


def optionals_of(message_type: type) -> list[dataclasses.Field[Any]]:
    """Fields that are left out of the body at their defaults."""
    return [field for field in dataclasses.fields(message_type) if "optional" in field.metadata]


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The value of an optional field that is left out."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
