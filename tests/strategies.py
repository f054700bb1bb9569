"""Hypothesis strategies for messages and trees, and readable builders for examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from shared.fields import (
    Blob,
    Bytes,
    Column,
    Flag,
    Integer,
    LongText,
    Maybe,
    Number,
    Several,
    Spec,
    Table,
    Text,
    specs_of,
)
from shared.messages import FINISH_REASONS, Message
from shared.tree import TokenTree


@st.composite
def parent_columns(draw: st.DrawFn, max_nodes: int = 12) -> list[int]:
    """Parents of a random tree: -1 or an earlier node."""
    size = draw(st.integers(0, max_nodes))
    return [draw(st.integers(-1, node - 1)) for node in range(size)]


@st.composite
def trees(draw: st.DrawFn, max_nodes: int = 12, vocab: int = 16) -> TokenTree:
    """Any well-formed tree: repeated siblings and rising log-probabilities included."""
    parents = draw(parent_columns(max_nodes))
    tokens = [draw(st.integers(0, vocab - 1)) for _ in parents]
    logprobs = [draw(st.floats(-30, 0, width=32)) for _ in parents]
    return TokenTree(np.array(tokens, np.int32), np.array(parents, np.int16), np.array(logprobs, np.float32))


@st.composite
def messages(draw: st.DrawFn, kind: type[Message], max_rows: int = 4) -> Message:
    """Any valid message of a kind."""
    rows = draw(st.integers(0, max_rows))
    forest = [draw(trees()) for _ in range(rows)]
    lengths = {"row": rows, "node": sum(map(len, forest)), "token": draw(st.integers(0, 20))}
    lengths["trace"] = draw(st.integers(0, rows))
    lengths["byte"] = draw(st.integers(0, 9))
    lengths["inspect"] = draw(st.integers(0, rows))
    lengths["bias"] = draw(st.integers(0, 5))
    lengths |= {axis: draw(st.integers(0, 3)) for axis in ("candidate", "accepted", "depth", "live")}
    lengths["chosen"] = draw(st.integers(0, lengths["candidate"]))
    lengths["drawn"] = lengths["accepted"] + draw(st.integers(0, 1))
    values: dict[str, Any] = {
        name: draw(_value(name, spec, lengths, forest)) for name, spec in specs_of(kind).items()
    }
    return kind(**values)


def _value(name: str, spec: Spec, lengths: dict[str, int], forest: list[TokenTree]) -> st.SearchStrategy[Any]:
    if isinstance(spec, Column) and spec.axis == "bias":
        return _biases(name, lengths["bias"])
    if isinstance(spec, Column):
        return _column(name, spec, lengths, forest)
    if name == "logprobs" and isinstance(spec, Bytes):
        return st.sampled_from([0, 4, 12]).map(lambda size: bytes(size * lengths["token"]))
    if isinstance(spec, Several) and name in ("tenant", "slo_class"):
        return st.just(("acme",) * lengths["live"])
    if name == "drafted":
        return st.none() | st.integers(0, lengths["token"])
    if name == "finish":
        return st.sampled_from([None, *FINISH_REASONS])
    return _plain(spec)


def _plain(spec: Spec) -> st.SearchStrategy[Any]:
    match spec:
        case Text(limit) | LongText(limit):
            return st.text(st.characters(codec="ascii"), max_size=min(limit, 20))
        case Integer(low, high):
            return st.integers(low, high)
        case Number(low, high):
            return st.floats(low, high, allow_nan=False)
        case Flag():
            return st.booleans()
        case Blob(size):
            return st.binary(min_size=size, max_size=size)
        case Bytes(limit):
            return st.binary(max_size=min(limit, 40))
        case Maybe(inner):
            return st.none() | _plain(inner)
        case Several(inner, limit):
            return st.lists(_plain(inner), max_size=min(limit, 3)).map(tuple)
        case Table(inner):
            return st.dictionaries(st.text(max_size=8), _plain(inner), max_size=3)
    raise TypeError(f"no strategy for {spec}")


def _biases(name: str, length: int) -> st.SearchStrategy[Any]:
    """Distinct ids, or what is added to their logits."""
    if name == "bias_ids":
        ids = st.lists(st.integers(0, 2**31 - 1), min_size=length, max_size=length, unique=True)
        return ids.map(lambda items: np.array(items, np.int32))
    return st.lists(st.floats(-100, 100), min_size=length, max_size=length).map(lambda i: np.array(i, np.float64))


_GIVEN: dict[str, Callable[[int], Any]] = {
    "trace_row": np.arange,
    "inspect_row": np.arange,
    "chosen": np.arange,
    "parents": lambda length: np.arange(-1, length - 1),  # of one tree; those of a forest are drawn
    "state": np.ones,
}


def _column(name: str, spec: Column, lengths: dict[str, int], forest: list[TokenTree]) -> st.SearchStrategy[Any]:
    length = lengths[spec.axis]
    if spec.is_offsets and spec.axis == "node":
        return st.just(np.cumsum([0, *map(len, forest)], dtype=np.int32))
    if spec.is_offsets:
        cuts = st.lists(st.integers(0, length), min_size=lengths["row"] - 1, max_size=lengths["row"] - 1)
        if lengths["row"] == 0:
            lengths[spec.axis] = 0
            return st.just(np.zeros(1, np.int32))
        return cuts.map(lambda inner: np.array([0, *sorted(inner), length], np.int32))
    if spec.axis == "node" and name in ("tokens", "parents", "logprobs"):
        return st.just(np.concatenate([getattr(tree, name) for tree in forest] or [np.empty(0, spec.dtype)]))
    if name in _GIVEN:
        return st.just(_GIVEN[name](length).astype(spec.dtype))
    if spec.dtype.kind in "VS":
        width = spec.dtype.itemsize
        one = st.text("0123456789abcdef-", min_size=width, max_size=width).map(str.encode)
        return st.lists(one, min_size=length, max_size=length, unique=name == "request").map(
            lambda items: np.frombuffer(b"".join(items), spec.dtype)
        )
    if spec.dtype.kind == "f":
        values: st.SearchStrategy[Any] = st.floats(0, width=32, allow_nan=False)
    elif spec.dtype.kind == "b":
        values = st.booleans()
    else:
        values = st.integers(0, int(np.iinfo(spec.dtype).max))
    return st.lists(values, min_size=length, max_size=length).map(lambda items: np.array(items, spec.dtype))
