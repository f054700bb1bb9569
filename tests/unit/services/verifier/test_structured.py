"""Structured output in a whole ring: plain decoding's tokens, always in the grammar; nobody is left waiting."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from services.verifier.acceptance import Walk, walk_trees
from services.verifier.sampling import Draw, SamplingParams, draw_token
from shared.errors import BusUnavailable, GrammarError
from shared.grammar import Grammars, Mask, Matcher
from shared.messages import MAX_SCHEMA_BYTES
from shared.tokenizer import Tokenizer
from shared.tree import EMPTY, TokenTree
from tests.requests import request
from tests.ring import TableRing, at_once, plain

SCHEMAS = (
    {
        "type": "object",
        "properties": {"a": {"enum": ["low", "high"]}, "b": {"type": "boolean"}},
        "required": ["a"],
    },
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 30}, "minItems": 2, "maxItems": 5},
    {"type": "string", "maxLength": 6},
    {"anyOf": [{"const": None}, {"type": "string", "pattern": "^[a-f]{3}$"}]},
)
EOS = frozenset({1})


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer, vocab_size=tokenizer.vocab_size, end_ids=EOS)


@pytest.fixture
def ring(build: Any, tokenizer: Tokenizer, grammars: Grammars) -> TableRing:
    made: TableRing = build(
        vocab_size=tokenizer.vocab_size,
        noise=0.3,
        eos=EOS,
        compile_schema=at_once(grammars.matcher),
        num_blocks=256,
        draft_blocks=256,
    )
    return made


def requests(**changes: Any) -> list[Any]:
    return [
        request(
            number,
            prompt=[5, 6, number],
            max_tokens=60,
            temperature=[0.0, 0.8, 1.3][number % 3],
            schema=json.dumps(SCHEMAS[number % len(SCHEMAS)]) if number % 5 else "",
            presence_penalty=[0.0, 0.7][number % 2],
            **changes,
        )
        for number in range(1, 10)
    ]


def test_outputs_are_plain_decodings_and_parse(ring: TableRing, tokenizer: Tokenizer, grammars: Grammars) -> None:
    asked = requests()
    for one in asked:
        ring.submit(one)
    delivered = ring.run()
    accepted = num_parsed = 0
    for one in asked:
        delivery = delivered[one.request]
        assert delivery.tokens == plain(ring.model, one, EOS, at_once(grammars.matcher))
        if one.schema and delivery.finish == "stop":
            json.loads(tokenizer.decode(delivery.tokens))
            num_parsed += 1
        if one.schema and delivery.stats is not None:
            accepted += int(delivery.stats["num_accepted_draft_tokens"])
    assert num_parsed > 3
    assert accepted > 10


def test_a_take_over_goes_on_inside_the_grammar(ring: TableRing, grammars: Grammars) -> None:
    asked = requests()
    for one in asked:
        ring.submit(one)
    ring.turn(6)
    ring.engine.drain(lambda: True)  # everything goes back to the queue, and is claimed again with its journal
    ring.engine._departure = None
    delivered = ring.run()
    for one in asked:
        assert delivered[one.request].tokens == plain(ring.model, one, EOS, at_once(grammars.matcher))


def test_min_tokens_yields_where_the_output_is_complete(ring: TableRing, grammars: Grammars) -> None:
    asked = request(1, max_tokens=60, min_tokens=40, schema='{"const":"abc"}')
    ring.submit(asked)
    delivery = ring.run()[asked.request]
    assert delivery.finish == "stop"
    assert len(delivery.tokens) < 40
    assert delivery.tokens == plain(ring.model, asked, EOS, at_once(grammars.matcher))


def test_a_schema_that_does_not_compile_is_a_dead_letter(ring: TableRing) -> None:
    asked = request(1, schema='{"type":"strang"}')
    ring.submit(asked)
    delivery = ring.run()[asked.request]
    assert (delivery.finish, delivery.error) == ("error", "Request: schema is refused: Invalid type")
    assert ring.client.xlen(ring.keys.dead) == 1


def test_a_journal_that_its_grammar_forbids_is_a_dead_letter(ring: TableRing) -> None:
    asked = request(1, schema='{"type":"array","minItems":40,"items":{"const":"abc"}}', max_tokens=60)
    ring.submit(asked)
    ring.turn(1)
    [generation] = ring.scheduler.generations
    generation.matcher = None  # from here on this verifier writes what it likes
    ring.turn(1)
    ring.engine.drain(lambda: True)
    ring.engine._departure = None
    assert "journal contradicts the schema" in str(ring.run()[asked.request].error)


class Slow:
    """Compiles when it is told to; `Compile`."""

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self.asked: list[tuple[str, Future[Matcher]]] = []

    def __call__(self, schema: str) -> Future[Matcher]:
        self.asked.append((schema, Future()))
        return self.asked[-1][1]

    def finish(self) -> None:
        for schema, compiling in self.asked:
            compiling.set_result(self._grammars.matcher(schema))
        self.asked.clear()


def test_nobody_waits_for_another_ones_grammar(build: Any, tokenizer: Tokenizer, grammars: Grammars) -> None:
    """And one whose grammar is still being compiled can be cancelled and handed over."""
    slow = Slow(grammars)
    ring = build(vocab_size=tokenizer.vocab_size, eos=EOS, compile_schema=slow)
    for number in (1, 2):
        ring.submit(request(number, schema=json.dumps(SCHEMAS[number]), max_tokens=30))
    other = request(3, max_tokens=20, ignore_eos=True)
    ring.submit(other)
    while not ring.scheduler.running:
        ring.turn()
    while other.request in {generation.id for generation in ring.scheduler.generations}:
        ring.turn()
    waiting = list(ring.scheduler.waiting)
    assert [generation.num_output for generation in waiting] == [0, 0]
    late = request(4, max_tokens=5)
    ring.submit(late)
    ring.turn(2)
    assert late.request in {generation.id for generation in ring.scheduler.running}, "places are free beside them"
    assert ring.scheduler.num_prefill_tokens == 0, "what cannot run yet is no backlog"
    ring.cancel(waiting[0].id)
    ring.turn()
    assert slow.asked[0][1].cancelled()
    del slow.asked[0]
    ring.engine.drain(lambda: True)
    ring.engine._departure = None
    del slow.asked[0]
    while not slow.asked:  # the second one is claimed again
        ring.turn()
    slow.finish()
    delivered = ring.run()
    second = request(2, schema=json.dumps(SCHEMAS[2]), max_tokens=30)
    assert delivered[second.request].tokens == plain(ring.model, second, EOS, at_once(grammars.matcher))


def test_a_lone_request_is_served_as_soon_as_its_grammar_is_there(
    build: Any, tokenizer: Tokenizer, grammars: Grammars
) -> None:
    """With the thread of the real thing."""
    ring = build(vocab_size=tokenizer.vocab_size, eos=EOS, compile_schema=grammars.compile)
    asked = request(1, schema='{"type":"array","items":{"enum":["new","here"]},"maxItems":4}', max_tokens=60)
    ring.submit(asked)
    assert ring.run()[asked.request].tokens == plain(ring.model, asked, EOS, grammars.compile)


class Failing:
    """A matcher that fails after some tokens, as one whose limits are reached."""

    def __init__(self, inner: Matcher, after: int, *, in_extend: bool = False) -> None:
        self.inner, self.after, self.in_extend = inner, after, in_extend

    @property
    def num_tokens(self) -> int:
        return self.inner.num_tokens

    def shorten(self, num_tokens: int) -> None:
        self.inner.shorten(num_tokens)

    def extend(self, tokens: list[int]) -> None:
        if self.in_extend and self.inner.num_tokens + len(tokens) > self.after:
            raise GrammarError("is too complex")
        self.inner.extend(tokens)

    def allowed_after(self, path: list[int]) -> Mask | None:
        if not self.in_extend and self.inner.num_tokens + len(path) > self.after:
            raise GrammarError("is too complex")
        return self.inner.allowed_after(path)


@pytest.mark.parametrize("in_extend", [False, True])
def test_a_grammar_that_fails_midway_ends_its_request_alone(
    build: Any, tokenizer: Tokenizer, grammars: Grammars, in_extend: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing: Callable[[str], Any] = lambda schema: Failing(grammars.matcher(schema), 3, in_extend=in_extend)  # noqa: E731
    ring = build(vocab_size=tokenizer.vocab_size, eos=EOS, compile_schema=at_once(failing))
    stuck, other = request(1, schema=json.dumps(SCHEMAS[0]), max_tokens=60), request(2, max_tokens=20)
    ring.submit(stuck)
    ring.submit(other)
    away = [True, True]
    give_up = ring.bus.give_up

    def sometimes(*told: Any) -> None:
        if away:
            away.pop()
            raise BusUnavailable("away")
        give_up(*told)

    monkeypatch.setattr(ring.bus, "give_up", sometimes)
    for _ in range(200):
        try:
            ring.turn()
        except BusUnavailable:
            continue
        if not ring.scheduler.generations:
            break
    delivered = ring.delivered()
    assert (delivered[stuck.request].finish, delivered[stuck.request].error) == (
        "error",
        "its JSON Schema is too complex",
    )
    assert delivered[other.request].tokens == plain(ring.model, other, EOS)
    assert not away
    assert ring.pool.num_free == ring.pool.num_blocks


def test_schemas_find_room_in_the_request_one_after_the_other(
    ring: TableRing, monkeypatch: pytest.MonkeyPatch, grammars: Grammars
) -> None:
    from services.verifier import ask

    schema = json.dumps({**SCHEMAS[1], "description": "x" * 600})
    monkeypatch.setitem(ask.MAX_AXIS, "byte", 1_500)
    asked = [request(number, schema=schema, max_tokens=20, prompt=[5, 6, number]) for number in range(1, 6)]
    for one in asked:
        ring.submit(one)
    delivered = ring.run()
    for one in asked:
        assert delivered[one.request].tokens == plain(ring.model, one, EOS, at_once(grammars.matcher))
        stats = delivered[one.request].stats
        assert stats is not None
        assert stats["num_spec_steps"] > 0, "each is told to the drafter in its turn"


def test_walks_with_a_grammar_are_no_witnesses(grammars: Grammars) -> None:
    params = SamplingParams(temperature=0.0)
    assert not Walk(EMPTY, 0, params, 3, matcher=grammars.matcher("{}")).is_free


def test_a_walk_descends_only_along_the_grammar(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = grammars.matcher('{"enum":["ab","ba"]}')
    quote = tokenizer.encode('"', special=False)[0]
    tree = TokenTree(np.array([quote, 9], np.int32), np.array([-1, 0], np.int16), np.zeros(2, np.float32))
    logits = np.zeros((3, tokenizer.vocab_size))
    logits[:, 9] = 50.0  # the target would always rather have 9
    walk = Walk(tree, 0, SamplingParams(temperature=0.0), 3, matcher=matcher)
    walk_trees(logits, [walk])
    assert 9 not in walk.tokens
    assert walk.error is None


def test_the_mask_comes_before_the_filters() -> None:
    logits = np.array([9.0, 5.0, 4.0, 3.0])
    allowed = np.array([False, False, True, True])
    params = SamplingParams(temperature=0.7, top_k=1, top_p=0.1, min_p=0.9)
    assert draw_token(logits, Draw(params, 3, allowed=allowed)) == 2
    banned = frozenset({2})
    assert draw_token(logits, Draw(params, 3, banned, allowed=allowed)) == 3
    only = np.array([False, False, True, False])
    assert draw_token(logits, Draw(params, 3, banned, allowed=only)) == 2
    assert MAX_SCHEMA_BYTES == 64 << 10
