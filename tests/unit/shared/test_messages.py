"""Messages survive the wire; anything else is refused with the field's name."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import codec
from shared.errors import UnreadableMessage
from shared.fields import FieldError, Maybe, Text, max_bytes, max_text_bytes, specs_of
from shared.inspection import InspectedStep, InspectedTree, LiveVerifier
from shared.messages import (
    MAX_CONTEXT,
    CandidateTrees,
    ControlEvent,
    DraftRequest,
    Message,
    Request,
    SelectedTrees,
    TokenEvent,
    request_ids,
)
from tests.strategies import messages

KINDS: list[type[Message]] = [Request, TokenEvent, ControlEvent, DraftRequest, CandidateTrees, SelectedTrees]
KINDS += [InspectedTree, InspectedStep, LiveVerifier]


def same(left: Message, right: Message) -> bool:
    pairs = [(getattr(left, name), getattr(right, name)) for name in specs_of(type(left))]
    return all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b
        for a, b in pairs
    )


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_message_survives_the_wire(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(messages(kind))
    assert same(message, codec.decode(kind, codec.encode(message)))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_decode_to_a_valid_message(kind: type[Message], data: st.DataObject) -> None:
    body = bytearray(codec.encode(data.draw(messages(kind))))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    for damaged in (bytes(body), bytes(body[:cut])):
        with contextlib.suppress(UnreadableMessage):  # any other exception fails the test
            assert isinstance(codec.decode(kind, damaged), kind)


@given(
    st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    st.integers(0, MAX_CONTEXT),
    st.lists(st.integers(0, 2**31 - 1)),
    st.binary(min_size=8, max_size=8),
)
def test_what_a_request_gains_has_the_bytes_of_its_event(
    request: str, start: int, tokens: list[int], digest: bytes
) -> None:
    column = np.array(tokens, np.int32)
    gained = codec.encode_gained(request=request, start=start, tokens=column.tobytes(), digest=digest)
    event = TokenEvent(
        request=request,
        start=start,
        tokens=column,
        digest=digest,
        finish=None,
        text_length=-1,
        stats=None,
        error=None,
    )
    assert gained == codec.encode(event)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        codec.decode(DraftRequest, noise)


def example_request() -> Request:
    return Request(
        request="0" * 32,
        tenant="acme",
        slo_class="chatbot",
        tier=1,
        prompt=np.array([1, 2, 3], np.int32),
        max_tokens=16,
        min_tokens=0,
        temperature=0.7,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.25,
        logprobs=2,
        bias_ids=np.array([4, 9], np.int32),
        bias=np.array([-100.0, 2.5]),
        seed=7,
        stop=("\n\n",),
        stop_token_ids=(),
        ignore_eos=False,
        tpot_ms=50.0,
        ttft_ms=float("inf"),
        speculation=True,
        max_depth=8,
        typical=0.25,
    )


def example_trees(kind: type[CandidateTrees] | type[SelectedTrees]) -> CandidateTrees | SelectedTrees:
    columns = {
        "tree_offsets": np.array([0, 2, 3], np.int32),
        "tokens": np.array([5, 6, 7], np.int32),
        "parents": np.array([-1, 0, -1], np.int16),
        "logprobs": np.array([-0.1, -0.5, -2.0], np.float32),
        "request": request_ids(["0" * 32, "f" * 32]),
        "traceparent": np.array([b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"], "S55"),
        "trace_row": np.array([1], np.int32),
    }
    plain = {int: 1, float: 0.5, str: "v.1"}
    hints = {"int": int, "float": float, "str": str}
    values = {f.name: plain[hints[str(f.type)]] for f in dataclasses.fields(kind) if str(f.type) in hints}
    for name, spec in specs_of(kind).items():
        if name not in values and name not in columns and name != "inspect_row":
            axis_length = {"row": 2, "node": 3}[spec.axis]  # type: ignore[attr-defined]
            columns[name] = np.ones(axis_length, spec.dtype)  # type: ignore[attr-defined]
    return kind(**values, **columns)


def example_draft_request() -> DraftRequest:
    ones = {name: np.ones(1, dtype) for name, dtype in [("epoch", np.uint64), ("base", np.int32)]}
    return DraftRequest(
        verifier="v.1",
        drafter="d.1",
        ring=0,
        step=9,
        depth=4,
        width=3,
        stop_value=0.0,
        prefill_tokens=0,
        prefill_slack_ms=0.0,
        profile="p1",
        overhead_ms=3.5,
        calibration="draft:target",
        request=request_ids(["ab" * 16]),
        **ones,
        token_offsets=np.array([0, 2], np.int32),
        tokens=np.array([4, 5], np.int32),
        digest=np.frombuffer(b"12345678", "V8"),
        temperature_bucket=np.zeros(1, np.uint8),
        tpot_ms=np.full(1, np.inf, np.float32),
        elapsed_ms=np.zeros(1, np.float32),
        committed=np.ones(1, np.int32),
        weight=np.ones(1, np.float32),
        max_depth=np.full(1, 8, np.uint8),
        warm=np.zeros(1, np.bool_),
        schema_offsets=np.array([0, 17], np.int32),
        schema=np.frombuffer(b'{"type":"object"}', np.uint8),
        trace_row=np.empty(0, np.int32),
        traceparent=np.empty(0, "S55"),
    )


def example_token_event() -> TokenEvent:
    return TokenEvent(
        request="0" * 32,
        start=3,
        tokens=np.array([8, 9], np.int32),
        digest=b"12345678",
        finish="stop",
        text_length=4,
        stats={"num_spec_steps": 2.0},
        error=None,
        logprobs=bytes(range(8)),
    )


def example_inspected_tree() -> InspectedTree:
    return InspectedTree(
        step=9,
        position=3,
        need=1.5,
        budget=6,
        rows=2,
        depth=4,
        width=3,
        draft_ms=2.5,
        select_ms=0.25,
        predicted_ms=12.0,
        tokens=np.array([5, 6, 7], np.int32),
        parents=np.array([-1, -1, 1], np.int16),
        probability=np.array([0.75, 0.5, 0.25], np.float32),
        chosen=np.array([1, 2], np.int16),
        phase=np.array([0, 1], np.uint8),
    )


def example_inspected_step() -> InspectedStep:
    return InspectedStep(
        step=9,
        position=3,
        mode="speculative",
        tpot_target_ms=50.0,
        tpot_ms=None,
        verify_ms=8.5,
        tokens=np.array([6, 8], np.int32),
        path=np.array([0], np.int16),
        logprobs=np.array([-0.5], np.float32),
    )


def example_live_verifier() -> LiveVerifier:
    return LiveVerifier(
        mode="speculative",
        mode_reason="",
        mode_since_ms=1e12,
        running=1,
        waiting=0,
        prefilling=0,
        kv_used=3,
        kv_total=64,
        steps_per_s=20.5,
        tokens_per_s=61.0,
        budget_used=800,
        slo_nodes=120,
        throughput_nodes=480,
        selected=600,
        accepted=400,
        expected_accepted=410.5,
        realised_accepted=400,
        calibration_error=0.02,
        drafter="d.1",
        accepted_at=np.arange(8, dtype=np.int64),
        rejected_at=np.ones(8, np.int64),
        request=request_ids(["0" * 32]),
        tenant=("acme",),
        slo_class=("chatbot",),
        state=np.array([2], np.uint8),
        position=np.array([9], np.int32),
        output_tokens=np.array([6], np.int32),
        tpot_ms=np.array([11.5]),
        tpot_target_ms=np.array([50.0]),
        slack_ms=np.array([np.inf]),
    )


GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    "message",
    [
        example_request(),
        example_token_event(),
        ControlEvent(kind="cancel", subject="0" * 32),
        example_draft_request(),
        example_trees(CandidateTrees),
        example_trees(SelectedTrees),
        example_inspected_tree(),
        example_inspected_step(),
        example_live_verifier(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_golden_bytes(message: Message) -> None:
    """A change of the wire shows as a diff; raise codec.SCHEMA_VERSION when it is not compatible."""
    golden = (GOLDEN / f"{type(message).__name__}.hex").read_text()
    assert codec.encode(message).hex("\n", 32) + "\n" == golden


ROWS = np.array([0], np.int32)


@pytest.mark.parametrize(
    ("plain", "change"),
    [
        (example_request(), {"inspect": True}),
        (example_token_event(), {"drafted": 1}),
        (example_draft_request(), {"inspect_row": ROWS}),
        (example_trees(CandidateTrees), {"inspect_row": ROWS}),
    ],
    ids=["Request", "TokenEvent", "DraftRequest", "CandidateTrees"],
)
def test_what_is_optional_only_adds_to_the_bytes_of_before(plain: Message, change: dict[str, object]) -> None:
    """Releases that do not know a field read all messages that do not use it."""
    told = dataclasses.replace(plain, **change)  # type: ignore[arg-type]
    body, [(name, value)] = msgpack.unpackb(codec.encode(told)), change.items()
    assert same(told, codec.decode(type(plain), codec.encode(told)))
    added = body.pop(name)
    assert added == (value.tobytes() if isinstance(value, np.ndarray) else value)
    assert body == msgpack.unpackb(codec.encode(plain))
    with pytest.raises(UnreadableMessage, match="unheard"):
        codec.decode(type(plain), msgpack.packb({**body, name: added, "unheard": 1}))


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (example_token_event(), {"drafted": 3}),
        (example_draft_request(), {"inspect_row": np.array([1], np.int32)}),
        (example_inspected_tree(), {"parents": np.array([-1, 1, 0], np.int16)}),
        (example_inspected_tree(), {"chosen": np.array([1, 3], np.int16)}),
        (example_inspected_step(), {"tokens": np.array([], np.int32)}),
        (example_inspected_step(), {"path": np.array([-1], np.int16)}),
        (example_live_verifier(), {"tenant": ()}),
        (example_live_verifier(), {"state": np.array([3], np.uint8)}),
    ],
)
def test_what_is_told_of_an_iteration_may_not_contradict_itself(
    message: Message, change: dict[str, object]
) -> None:
    with pytest.raises(FieldError):
        dataclasses.replace(message, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": np.array([1.0])}, "prompt"),
        ({"stop": ("x" * 2000,)}, "stop"),
        ({"seed": 2**64}, "seed"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"bias_ids": np.array([4, -1], np.int32)}, "bias_ids"),
        ({"bias_ids": np.array([4, 4], np.int32)}, "bias_ids"),
        ({"bias_ids": np.array([4], np.int32)}, "bias"),
        ({"bias": np.array([0.0, 100.5])}, "bias"),
        ({"tpot_ms": -1.0}, "tpot_ms"),
    ],
)
def test_a_value_out_of_bounds_names_its_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(FieldError, match=field):
        dataclasses.replace(example_request(), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"finish": "bored"}, "finish"),
        ({"logprobs": bytes(7)}, "logprobs"),
        ({"logprobs": "text"}, "logprobs"),
    ],
)
def test_an_event_that_contradicts_itself_names_its_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(FieldError, match=field):
        dataclasses.replace(example_token_event(), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"parents": np.array([-1, 1, -1], np.int16)}, "parents"),
        ({"parents": np.array([-1, 0, 1], np.int16)}, "parents"),
        ({"tree_offsets": np.array([0, 2, 2], np.int32)}, "tree_offsets"),
        ({"tree_offsets": np.array([0, 4, 3], np.int32)}, "tree_offsets"),
        ({"tokens": np.array([5, -6, 7], np.int32)}, "tokens"),
        ({"logprobs": np.array([0.0, np.nan, 0.0], np.float32)}, "logprobs"),
        ({"epoch": np.ones(3, np.uint64)}, "epoch"),
        ({"trace_row": np.array([2], np.int32)}, "trace_row"),
    ],
)
def test_crooked_columns_are_refused(change: dict[str, object], field: str) -> None:
    with pytest.raises(FieldError, match=field):
        dataclasses.replace(example_trees(CandidateTrees), **change)  # type: ignore[arg-type]


def test_field_sets_must_match_exactly() -> None:
    body = msgpack.unpackb(codec.encode(ControlEvent(kind="mode", subject="")))
    for damaged in ({**body, "extra": 1}, {k: v for k, v in body.items() if k != "kind"}, {**body, "v": 99}):
        with pytest.raises(UnreadableMessage, match=r"extra|kind|schema version"):
            codec.decode(ControlEvent, msgpack.packb(damaged))


@pytest.mark.parametrize("kind", KINDS)
def test_the_limits_of_a_kind_leave_room_for_its_largest_values(kind: type[Message]) -> None:
    texts = [spec for spec in specs_of(kind).values() if isinstance(spec, Text)]
    for name, spec in specs_of(kind).items():
        assert 0 < max_bytes(spec) <= codec.MAX_BODY_BYTES, name
    with pytest.raises(TypeError, match="no size"):
        max_bytes(None)  # type: ignore[arg-type]
    assert all(max_text_bytes(text) == text.limit for text in texts)


def test_the_longest_texts_and_lists_are_read_back() -> None:
    message = dataclasses.replace(
        example_request(),
        tenant="é" * 64,
        stop=("🙂" * 256,) * 16,
        stop_token_ids=tuple(range(64)),
        prompt=np.arange(1 << 20, dtype=np.int32),
        bias_ids=np.arange(1024, dtype=np.int32),
        bias=np.full(1024, 100.0),
    )
    assert same(message, codec.decode(Request, codec.encode(message)))


def test_a_schema_of_128_kib_would_find_room() -> None:
    """A field decides the limit of its message's texts."""
    assert max_text_bytes(Maybe(Text(128 << 10))) == 128 << 10
    assert max_bytes(Maybe(Text(128 << 10))) > 128 << 10


def test_an_oversized_body_is_refused_before_parsing() -> None:
    with pytest.raises(UnreadableMessage, match="limit"):
        codec.decode(Request, b"\xc0" * (codec.MAX_BODY_BYTES + 1))


def test_position_counts_the_acknowledged_prefix() -> None:
    message = example_draft_request()
    assert message.position.tolist() == [3]
    assert message.row_tokens(0).tolist() == [4, 5]
