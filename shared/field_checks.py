"""All fields of a message at once: whether they fit what was declared, and a message from their wire forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from shared.fields import MAX_AXIS, Column, FieldError, Plain, default_of, optionals_of, specs_of

T = TypeVar("T")


class _Plan(NamedTuple):
    """What is asked of a class's fields, sorted once: tokens come by the thousand a second."""

    names: list[str]
    plain: list[tuple[str, Callable[[Any], None]]]
    packed: list[tuple[str, Callable[[Any], Any]]]  # neither columns nor as msgpack has them: how to unpack them
    columns: list[tuple[str, Column]]
    offsets: list[tuple[str, str]]  # and the axis that they cut
    absent: dict[str, Any]  # the values of optional fields that a body has not


_plans: dict[type, _Plan] = {}


def _plan_of(message_type: type) -> _Plan:
    plan = _plans.get(message_type)
    if plan is None:
        specs = specs_of(message_type).items()
        columns = [(name, spec) for name, spec in specs if isinstance(spec, Column)]
        plan = _plans[message_type] = _Plan(
            [name for name, _ in specs],
            [(name, spec.check) for name, spec in specs if not isinstance(spec, Column)],
            [(name, spec.unpack) for name, spec in specs if not isinstance(spec, Column | Plain)],
            columns,
            [(name, spec.axis) for name, spec in columns if spec.is_offsets],
            {field.name: default_of(field) for field in optionals_of(message_type)},
        )
    return plan


def check_fields(message: Any) -> None:
    """Raise FieldError, naming the field, unless every value fits its spec and all axes agree."""
    plan = _plan_of(type(message))
    axes: dict[str, int] = {}
    name = ""
    try:
        for name, check in plan.plain:
            check(getattr(message, name))
        for name, spec in plan.columns:
            value = getattr(message, name)
            spec.check(value)
            _count(axes, spec, len(value))
    except FieldError as error:
        raise FieldError(f"{name} {error}") from None
    _check_axes(message, plan, axes)


def from_wire(message_type: type[T], fields: dict[str, Any]) -> T:
    """A message of these wire forms by name, which may lack what is optional, with all that `check_fields` asks.

    What a column is made of is looked at while it is made, so not again. ``fields`` is used up.
    """
    plan = _plan_of(message_type)
    axes: dict[str, int] = {}
    name = ""
    try:
        for name, spec in plan.columns:
            if name in fields:
                fields[name] = value = spec.unpack(fields[name])
                spec.check_values(value)
                _count(axes, spec, len(value))
        for name, unpack in plan.packed:
            if name in fields:
                fields[name] = unpack(fields[name])
        for name, value in plan.absent.items():
            fields.setdefault(name, value)
        for name, check in plan.plain:
            check(fields[name])
    except FieldError as error:
        raise FieldError(f"{name} {error}") from None
    message = object.__new__(message_type)
    for name in plan.names:
        object.__setattr__(message, name, fields[name])
    _check_axes(message, plan, axes)
    return message


def _count(axes: dict[str, int], spec: Column, length: int) -> None:
    if not spec.is_offsets and axes.setdefault(spec.axis, length) != length:
        raise FieldError(f"differs in length from the other {spec.axis} columns")


def _check_axes(message: Any, plan: _Plan, axes: dict[str, int]) -> None:
    for axis, length in axes.items():
        if length > MAX_AXIS[axis]:
            raise FieldError(f"more than {MAX_AXIS[axis]} {axis}s")
    for name, axis in plan.offsets:
        _check_offsets(name, getattr(message, name).tolist(), rows=axes["row"], total=axes[axis])


def _check_offsets(name: str, cuts: list[int], *, rows: int, total: int) -> None:
    if len(cuts) != rows + 1 or cuts[0] != 0 or cuts[-1] != total or cuts != sorted(cuts):
        raise FieldError(f"{name} does not cut {total} values into {rows} rows")
