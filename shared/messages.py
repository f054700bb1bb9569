"""What the four services say to each other (docs/protocol.md, messages). Field order is the wire order.

Work: ``Request``, ``TokenEvent``, ``ControlEvent``. Hints, one ring iteration: ``DraftRequest`` (verifier to
drafter), ``CandidateTrees`` (drafter to selector), ``SelectedTrees`` (selector to verifier).

Every message checks itself when it is built and raises ``fields.FieldError``, so a message that exists is well
formed; what needs knowledge of a model (token ids below the vocabulary) is checked where the model is.
Times are milliseconds. A best-effort request has ``tpot_ms`` = infinity.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import lt, sub
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.field_checks import check_fields
from shared.fields import (
    Blob,
    Bytes,
    FieldError,
    Flag,
    Integer,
    LongText,
    Maybe,
    Number,
    Several,
    Table,
    Text,
    column,
    declared,
    offsets,
    optional,
    optional_column,
)
from shared.logprobs import MAX_TOP
from shared.tree import ROOT, TokenTree

Array = npt.NDArray[Any]

MAX_CONTEXT = 1 << 20
MAX_DEPTH = 64
MAX_WIDTH = 64
MAX_BIAS = 100.0
MAX_LOGPROB_BYTES = 8 << 20
MAX_SCHEMA_BYTES = 64 << 10
UNBOUNDED = float("inf")
FEW = 512  # nodes; numpy is quicker by the node, but has to be fetched after a forward pass or a pause

REQUEST_ID = np.dtype("V16")  # 128 bits, server-generated
DIGEST = np.dtype("V8")
TRACEPARENT = np.dtype("S55")  # W3C traceparent, version 00

NEED_CONTEXT = -1  # `acknowledged`: the drafter does not hold the prefix this row builds on
NO_ROOM = -2  # `acknowledged`: the drafter's KV pool is full

SLO_PHASE = 0
THROUGHPUT_PHASE = 1

FINISH_REASONS = ("stop", "length", "cancelled", "error", "detached", "expired")


class Message:
    """Base of all messages: checks the declared fields once, at construction."""

    __slots__ = ()

    def __post_init__(self) -> None:
        check_fields(self)
        self.check_together()

    def check_together(self) -> None:
        """What no field can tell by itself. Raises FieldError."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request(Message):
    """One completion to produce, as the gateway admitted it."""

    request: str = declared(Text(32))
    tenant: str = declared(Text(128))
    slo_class: str = declared(Text(64))
    tier: int = declared(Integer(0, 15))
    prompt: Array = column(np.int32, "token")
    max_tokens: int = declared(Integer(1, MAX_CONTEXT))
    min_tokens: int = declared(Integer(0, MAX_CONTEXT))
    temperature: float = declared(Number(0.0, 100.0))
    top_k: int = declared(Integer(0, 2**31 - 1))  # 0: all
    top_p: float = declared(Number(0.0, 1.0))
    min_p: float = declared(Number(0.0, 1.0))
    presence_penalty: float = declared(Number(-2.0, 2.0), 0.0)
    frequency_penalty: float = declared(Number(-2.0, 2.0), 0.0)
    repetition_penalty: float = declared(Number(sys.float_info.min, 2.0), 1.0)
    logprobs: int | None = declared(Maybe(Integer(0, MAX_TOP)), None)  # alternatives to tell with each token's own
    bias_ids: Array = column(np.int32, "bias")
    bias: Array = column(np.float64, "bias")  # added to the logits of those ids
    seed: int = declared(Integer(0, 2**64 - 1))
    stop: tuple[str, ...] = declared(Several(Text(1024), 16))
    stop_token_ids: tuple[int, ...] = declared(Several(Integer(), 64))
    ignore_eos: bool = declared(Flag())
    schema: str = declared(LongText(MAX_SCHEMA_BYTES), "")  # JSON Schema of the output, "" for free text
    tpot_ms: float = declared(Number(0.0))
    ttft_ms: float = declared(Number(0.0))
    speculation: bool = declared(Flag())
    max_depth: int = declared(Integer(0, MAX_DEPTH))
    typical: float = declared(Number(0.0, 1.0), 0.0)  # threshold of typical acceptance, 0: exact
    inspect: bool = optional(Flag(), False)  # its iterations are told in `inspect:<id>`

    def check_together(self) -> None:
        _check_not_negative("bias_ids", self.bias_ids)
        if len(set(self.bias_ids.tolist())) != len(self.bias_ids):
            raise FieldError("bias_ids must not name an id twice")
        if self.bias.size and np.abs(self.bias).max() > MAX_BIAS:
            raise FieldError(f"bias must be from {-MAX_BIAS:g} to {MAX_BIAS:g}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenEvent(Message):
    """Tokens committed for one request: those that fill context[start : start + len(tokens)].

    ``finish`` is set on the last event of a request; ``text_length`` is then the number of characters of output
    text to keep, -1 for all of it (a stop string cuts inside committed tokens). ``stats`` belongs to the last
    event, ``error`` to one whose finish is "error". ``logprobs`` are entries of `shared.logprobs`, one for each
    token, empty where the request does not ask for them. ``drafted`` is how many of the leading tokens the draft
    model had guessed, None where the request does not ask for that.
    """

    request: str = declared(Text(32))
    start: int = declared(Integer(0, MAX_CONTEXT))
    tokens: Array = column(np.int32, "token")
    digest: bytes = declared(Blob(8))
    finish: str | None = declared(Maybe(Text(16)))
    text_length: int = declared(Integer(-1, 2**31 - 1))
    stats: dict[str, float] | None = declared(Maybe(Table(Number(-UNBOUNDED))))
    error: str | None = declared(Maybe(Text(1024)))
    logprobs: bytes = declared(Bytes(MAX_LOGPROB_BYTES), b"")
    drafted: int | None = optional(Maybe(Integer(0, MAX_CONTEXT)), None)

    def check_together(self) -> None:
        _check_not_negative("tokens", self.tokens)
        if self.finish is not None and self.finish not in FINISH_REASONS:
            raise FieldError(f"finish must be one of {', '.join(FINISH_REASONS)}")
        if len(self.logprobs) % max(1, len(self.tokens)):
            raise FieldError("logprobs must be entries of one size for each token")
        if self.drafted is not None and self.drafted > len(self.tokens):
            raise FieldError("drafted must not be more than there are tokens")

    @property
    def end(self) -> int:
        """Position after this event's tokens."""
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ControlEvent(Message):
    """A wake-up: the truth is in the keys.

    ``kind`` is "cancel" (subject: request id), "mode" (none) or "left" (a drafter that is going).
    """

    kind: str = declared(Text(32))
    subject: str = declared(Text(128))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DraftRequest(Message):
    """Verifier to drafter: what each running request gained, its SLO state, how far to speculate.

    Row r stands at context position ``base[r] + number of its tokens``. ``base`` is the last position this
    drafter acknowledged, ``digest`` the digest at the row's position. ``elapsed_ms`` counts from the commit of
    the request's first token, ``committed`` its output tokens. ``warm`` rows are still prefilling and draw no
    token in the coming step. ``overhead_ms`` is what an iteration usually costs besides drafting and the
    forward pass, as the verifier measured it. ``schema`` is the UTF-8 text of the JSON Schema that a row's output,
    its last ``committed`` tokens, must follow; nothing for a free one, or where the drafter was told (base > 0).
    ``calibration`` is the model pair "<draft>:<target>" whose label counts correct the draft, "" for none.
    """

    verifier: str = declared(Text())
    drafter: str = declared(Text())
    ring: int = declared(Integer(0, 255))
    step: int = declared(Integer(0, 2**63 - 1))
    depth: int = declared(Integer(0, MAX_DEPTH))
    width: int = declared(Integer(0, MAX_WIDTH))
    stop_value: float = declared(Number(0.0))
    prefill_tokens: int = declared(Integer())
    prefill_slack_ms: float = declared(Number(-UNBOUNDED))
    profile: str = declared(Text(64))
    overhead_ms: float = declared(Number(0.0))
    calibration: str = declared(Text())

    request: Array = column(REQUEST_ID)
    epoch: Array = column(np.uint64)
    base: Array = column(np.int32)
    token_offsets: Array = offsets("token")
    tokens: Array = column(np.int32, "token")
    digest: Array = column(DIGEST)
    temperature_bucket: Array = column(np.uint8)
    tpot_ms: Array = column(np.float32)
    elapsed_ms: Array = column(np.float32)
    committed: Array = column(np.int32)
    weight: Array = column(np.float32)
    max_depth: Array = column(np.uint8)
    warm: Array = column(np.bool_)
    schema_offsets: Array = offsets("byte")
    schema: Array = column(np.uint8, "byte")

    trace_row: Array = column(np.int32, "trace")
    traceparent: Array = column(TRACEPARENT, "trace")
    inspect_row: Array = optional_column(np.int32, "inspect")  # rows whose candidates are told in `inspect:<id>`

    def check_together(self) -> None:
        _check_distinct(self.request)
        _check_not_negative("base", self.base)
        _check_not_negative("tokens", self.tokens)
        _check_rows("trace_row", self.trace_row, rows=len(self.request))
        _check_rows("inspect_row", self.inspect_row, rows=len(self.request))

    @property
    def position(self) -> Array:
        """int32 [rows]: context length of each row."""
        length: Array = self.base + (self.token_offsets[1:] - self.token_offsets[:-1])
        return length

    def row_tokens(self, row: int) -> Array:
        """int32: the tokens of one row since its base."""
        tokens: Array = self.tokens[self.token_offsets[row] : self.token_offsets[row + 1]]
        return tokens

    def row_schema(self, row: int) -> str:
        """The JSON Schema told with one row, "" where there is none. What is no UTF-8 is replaced."""
        told: Array = self.schema[self.schema_offsets[row] : self.schema_offsets[row + 1]]
        return told.tobytes().decode(errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CandidateTrees(Message):
    """Drafter to selector: one candidate tree per row, in level order, and the rows' SLO state passed through.

    ``acknowledged`` is the position the drafter holds, NEED_CONTEXT or NO_ROOM. ``draft_ms`` is the drafter's
    time from reading the request to sending this, ``level_ms`` what one more level of trees costs it at this batch
    size, 0 before it knows.
    """

    verifier: str = declared(Text())
    drafter: str = declared(Text())
    ring: int = declared(Integer(0, 255))
    step: int = declared(Integer(0, 2**63 - 1))
    depth: int = declared(Integer(0, MAX_DEPTH))
    width: int = declared(Integer(0, MAX_WIDTH))
    prefill_tokens: int = declared(Integer())
    prefill_slack_ms: float = declared(Number(-UNBOUNDED))
    profile: str = declared(Text(64))
    overhead_ms: float = declared(Number(0.0))
    calibration: str = declared(Text())
    draft_ms: float = declared(Number(0.0))
    level_ms: float = declared(Number(0.0))

    request: Array = column(REQUEST_ID)
    epoch: Array = column(np.uint64)
    position: Array = column(np.int32)
    acknowledged: Array = column(np.int32)
    temperature_bucket: Array = column(np.uint8)
    tpot_ms: Array = column(np.float32)
    elapsed_ms: Array = column(np.float32)
    committed: Array = column(np.int32)
    weight: Array = column(np.float32)
    max_depth: Array = column(np.uint8)
    warm: Array = column(np.bool_)

    tree_offsets: Array = offsets("node")
    tokens: Array = column(np.int32, "node")
    parents: Array = column(np.int16, "node")
    logprobs: Array = column(np.float32, "node")

    trace_row: Array = column(np.int32, "trace")
    traceparent: Array = column(TRACEPARENT, "trace")
    inspect_row: Array = optional_column(np.int32, "inspect")  # rows whose candidates are told in `inspect:<id>`

    def check_together(self) -> None:
        _check_distinct(self.request)
        _check_trees(self.tree_offsets, self.tokens, self.parents)
        _check_rows("trace_row", self.trace_row, rows=len(self.request))
        _check_rows("inspect_row", self.inspect_row, rows=len(self.request))

    def trees(self) -> Iterator[TokenTree]:
        """One tree per row; columns are views."""
        return _cut_trees(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SelectedTrees(Message):
    """Selector to verifier: the nodes to verify, in selection order, and the control of the next iteration.

    Any prefix of a row's nodes is closed under ancestors. ``logprobs`` are the draft's raw path
    log-probabilities, ``phase`` says which phase chose a node, ``late`` marks requests that cannot meet their
    target in this iteration. ``predicted_ms`` is t_spec, the period from DraftRequest to commit.
    """

    verifier: str = declared(Text())
    drafter: str = declared(Text())
    ring: int = declared(Integer(0, 255))
    step: int = declared(Integer(0, 2**63 - 1))
    budget_used: int = declared(Integer())
    predicted_ms: float = declared(Number(0.0))
    draft_ms: float = declared(Number(0.0))
    prefill_tokens: int = declared(Integer())
    depth: int = declared(Integer(0, MAX_DEPTH))
    width: int = declared(Integer(0, MAX_WIDTH))
    stop_value: float = declared(Number(0.0))

    request: Array = column(REQUEST_ID)
    epoch: Array = column(np.uint64)
    position: Array = column(np.int32)
    acknowledged: Array = column(np.int32)
    weight: Array = column(np.float32)
    late: Array = column(np.bool_)

    tree_offsets: Array = offsets("node")
    tokens: Array = column(np.int32, "node")
    parents: Array = column(np.int16, "node")
    logprobs: Array = column(np.float32, "node")
    phase: Array = column(np.uint8, "node")

    trace_row: Array = column(np.int32, "trace")
    traceparent: Array = column(TRACEPARENT, "trace")

    def check_together(self) -> None:
        _check_distinct(self.request)
        _check_trees(self.tree_offsets, self.tokens, self.parents)
        _check_rows("trace_row", self.trace_row, rows=len(self.request))

    def trees(self) -> Iterator[TokenTree]:
        """One tree per row; columns are views."""
        return _cut_trees(self)


def request_ids(ids: list[str]) -> Array:
    """Hex request ids as a REQUEST_ID column."""
    return np.frombuffer(bytes.fromhex("".join(ids)), REQUEST_ID)


def _cut_trees(message: CandidateTrees | SelectedTrees) -> Iterator[TokenTree]:
    cuts = message.tree_offsets.tolist()
    for first, end in pairwise(cuts):
        yield TokenTree.checked(message.tokens[first:end], message.parents[first:end], message.logprobs[first:end])


def _check_trees(tree_offsets: Array, tokens: Array, parents: Array) -> None:
    _check_not_negative("tokens", tokens)
    is_ordered = _precede if len(parents) <= FEW else _precede_of_many
    if not is_ordered(tree_offsets, parents):
        raise FieldError("parents must be -1 or come before their children")


def _precede(tree_offsets: Array, parents: Array) -> bool:
    """Whether every parent is ROOT or stands before its child in the child's tree."""
    cuts, above = tree_offsets.tolist(), parents.tolist()
    places = chain.from_iterable(map(range, map(sub, cuts[1:], cuts)))
    return min(above, default=ROOT) >= ROOT and all(map(lt, above, places))


def _precede_of_many(tree_offsets: Array, parents: Array) -> bool:
    above = tree_offsets[:-1].repeat(tree_offsets[1:] - tree_offsets[:-1])  # each row's first node
    above += parents
    return bool(parents.min() >= ROOT and (above < np.arange(len(parents))).all())


def _check_distinct(request: Array) -> None:
    if len(set(request.tolist())) != len(request):
        raise FieldError("request must not name a request twice")


def _check_not_negative(name: str, values: Array) -> None:
    # The last byte of each has the sign; no number is looked at.
    if not values.tobytes()[values.itemsize - 1 :: values.itemsize].isascii():
        raise FieldError(f"{name} must not be negative")


def _check_rows(name: str, values: Array, *, rows: int) -> None:
    if values.size and (values.min() < 0 or values.max() >= rows):
        raise FieldError(f"{name} must be below {rows}")
