"""Latency model (shared/latency.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UnreadableMessage
from shared.latency import MAX_BUCKETS, MAX_POINTS, LatencyModel

TABLE = LatencyModel(tokens=(1, 16, 64), ms=(10.0, 13.0, 37.0))


@st.composite
def tables(draw: st.DrawFn, *, bucketed: bool = False) -> LatencyModel:
    more = draw(st.lists(st.integers(2, 2000), min_size=1, max_size=12, unique=True))
    ms = draw(st.lists(st.floats(0.01, 500.0), min_size=len(more) + 1, max_size=len(more) + 1))
    buckets = draw(st.lists(st.integers(1, 3000), max_size=6, unique=True)) if bucketed else []
    return LatencyModel(
        tokens=(1, *sorted(more)),
        ms=tuple(sorted(ms)),
        context_ms=draw(st.floats(0.0, 50.0)),
        row_ms=draw(st.floats(0.0, 5.0)),
        buckets=tuple(sorted(buckets)),
    )


@given(tables())
def test_prediction_passes_through_the_points_and_never_falls(table: LatencyModel) -> None:
    counts = np.arange(table.tokens[-1] + 50)
    predicted = table.predict_ms(counts)
    np.testing.assert_allclose(predicted[list(table.tokens)], table.ms)
    assert (np.diff(predicted) >= -1e-9).all()
    assert [table.predict_ms(int(count)) for count in counts[::97]] == predicted[::97].tolist()


@given(tables(bucketed=True), st.integers(0, 4000), st.integers(0, 100_000), st.integers(0, 64))
def test_padding_context_and_rows_add_up(model: LatencyModel, tokens: int, context: int, rows: int) -> None:
    padded = model.padded(tokens)
    assert padded == min([end for end in model.buckets if end >= tokens], default=tokens)
    curve = LatencyModel(tokens=model.tokens, ms=model.ms).predict_ms(padded)
    expected = curve + model.context_ms * context / 1000 + model.row_ms * rows
    assert model.predict_ms(tokens, context_tokens=context, rows=rows) == pytest.approx(expected)
    several = model.predict_ms(np.array([tokens] * 2), context_tokens=np.array([context, 0]), rows=rows)
    assert several[0] == model.predict_ms(tokens, context_tokens=context, rows=rows)
    assert several[1] <= several[0]


@given(tables(bucketed=True), st.floats(1.0, 10.0))
def test_budget_is_the_largest_within_the_ratio(table: LatencyModel, ratio: float) -> None:
    budget = table.budget(ratio)
    fits = table.predict_ms(np.arange(1, table.tokens[-1] + 1)) <= ratio * table.predict_ms(1)
    assert budget == int(fits.sum())


def test_prediction_is_linear_between_and_beyond_the_points() -> None:
    assert TABLE.predict_ms(40) == 25.0
    assert TABLE.predict_ms(74) == 42.0
    assert TABLE.predict_ms(0) == 10.0


def test_budget_of_a_known_table() -> None:
    assert TABLE.budget(2.5) == 40
    assert TABLE.budget(1.0) == 1


def test_budget_does_not_reach_beyond_what_was_measured() -> None:
    assert LatencyModel(tokens=(1, 8), ms=(10.0, 10.0)).budget() == 8


@pytest.mark.parametrize("ratio", [0.99, float("nan")])
def test_budget_ratio_below_one_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        TABLE.budget(ratio)


def test_budget_fills_its_bucket() -> None:
    assert replace(TABLE, buckets=(8, 16, 32, 64)).budget(2.5) == 32  # T(33) is T(64): too long
    assert replace(TABLE, buckets=(8, 16, 32)).budget(2.5) == 47


def test_corrections_stretch_and_raise_the_curve() -> None:
    corrected = TABLE.corrected(scale=2.0, offset_ms=1.0, context_ms=3.0, row_ms=0.5)
    assert corrected.ms == (21.0, 27.0, 75.0)
    assert corrected.predict_ms(16, context_tokens=2000, rows=4) == 27.0 + 6.0 + 2.0


@given(tables(bucketed=True))
def test_bytes_round_trip_and_version_names_the_content(table: LatencyModel) -> None:
    again = LatencyModel.from_bytes(table.to_bytes())
    assert again == table
    assert again.version == table.version
    slower = replace(table, ms=(*table.ms[:-1], table.ms[-1] + 1.0))
    assert slower.version != table.version


@given(st.lists(st.tuples(st.integers(2, 500), st.floats(0.1, 100.0)), min_size=1, max_size=30))
def test_samples_become_the_lower_monotone_envelope(samples: list[tuple[int, float]]) -> None:
    tokens, ms = zip(*samples, (1, 5.0), strict=True)
    table = LatencyModel.from_samples(tokens, ms)
    for count, time in zip(table.tokens, table.ms, strict=True):
        assert time == min(t for c, t in zip(tokens, ms, strict=True) if c >= count)


def test_samples_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        LatencyModel.from_samples([1, 2], [1.0])


@pytest.mark.parametrize(
    ("tokens", "ms", "what"),
    [
        ((1, 2), (1.0,), "2 token counts for 1"),
        ((1,), (1.0,), "1 points"),
        (tuple(range(1, MAX_POINTS + 2)), (1.0,) * (MAX_POINTS + 1), "points"),
        ((2, 3), (1.0, 2.0), "start at 1"),
        ((1, 3, 3), (1.0, 2.0, 3.0), "rise strictly"),
        ((1, 1 << 21), (1.0, 2.0), "limit"),
        ((1, 2), (0.0, 2.0), "positive"),
        ((1, 2), (1.0, float("inf")), "finite"),
        ((1, 2), (1.0, float("nan")), "finite"),
        ((1, 2), (2.0, 1.0), "fall"),
    ],
)
def test_bad_curves_are_refused_by_name(tokens: tuple[int, ...], ms: tuple[float, ...], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        LatencyModel(tokens=tokens, ms=ms)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"context_ms": -0.1}, "context_ms -0.1"),
        ({"context_ms": float("nan")}, "context_ms nan"),
        ({"row_ms": float("inf")}, "row_ms inf"),
        ({"buckets": (8, 8)}, "buckets must be positive and rise"),
        ({"buckets": (0, 8)}, "buckets must be positive and rise"),
        ({"buckets": (8, 1 << 21)}, "limit"),
        ({"buckets": tuple(range(1, MAX_BUCKETS + 2))}, f"limit is {MAX_BUCKETS}"),
    ],
)
def test_bad_parts_are_refused_by_name(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        replace(TABLE, **changes)


def _packed(**changes: Any) -> bytes:
    fields = {
        "v": 2,
        "tokens": np.array([1, 2], "<i4").tobytes(),
        "ms": np.array([1, 2], "<f8").tobytes(),
        "buckets": b"",
        "context_ms": 0.5,
        "row_ms": 0.0,
    }
    packed: bytes = msgpack.packb({**fields, **changes})
    return packed


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (b"x" * 100_000, "bytes"),
        (msgpack.packb([]), "fields"),
        (msgpack.packb({"v": 2}), "fields"),
        (_packed(extra=1), "not msgpack"),
        (_packed(v=1), "version"),
        (_packed(v=True), "version"),
        (_packed(tokens="text"), "tokens"),
        (_packed(ms=b"123"), "buffer"),
        (_packed(buckets=[1]), "not msgpack"),
        (_packed(context_ms=1), "context_ms must be a float"),
        (_packed(row_ms=-1.0), "row_ms -1.0"),
        (_packed(ms=np.array([2, 1], "<f8").tobytes()), "fall"),
    ],
)
def test_unreadable_bytes_are_refused_by_name(data: bytes, what: str) -> None:
    with pytest.raises(UnreadableMessage, match=what):
        LatencyModel.from_bytes(data)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_do_worse_than_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        LatencyModel.from_bytes(data)
