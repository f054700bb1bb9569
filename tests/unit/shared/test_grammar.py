"""What a grammar allows at every node; that whatever it lets through validates; what it says when it refuses."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tokenizers

from bench.local import TARGET
from bench.structured import Schemas, is_valid
from shared.errors import GrammarError
from shared.grammar import Grammars, Matcher, no_grammars
from shared.tokenizer import Tokenizer, load_tokenizer
from tests.tiny_tokenizers import byte_fallback, byte_level, save

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 4}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
PADDED = 4  # rows of the embedding without a token


def saved(backend: tokenizers.Tokenizer, folder: Path) -> Tokenizer:
    return load_tokenizer(str(save(backend, folder)))


@pytest.fixture(scope="module", params=["byte level", "byte fallback", "embedded"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    if request.param == "embedded":
        return load_tokenizer(TARGET)
    backend = byte_level() if request.param == "byte level" else byte_fallback()
    return saved(backend, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer, vocab_size=tokenizer.vocab_size + PADDED, end_ids=tokenizer.eos_token_ids)


def choices(matcher: Matcher, path: list[int]) -> list[int]:
    allowed = matcher.allowed_after(path)
    assert allowed is not None
    return np.flatnonzero(allowed).tolist()  # type: ignore[no-any-return]


def written(matcher: Matcher, dice: random.Random, ends: frozenset[int], limit: int = 400) -> list[int] | None:
    """Any allowed tokens up to the end, which is not among them; None where it does not come."""
    tokens: list[int] = []
    while len(tokens) < limit:
        allowed = choices(matcher, [])
        token = min(ends) if ends & {*allowed} and dice.random() < 0.5 else dice.choice(allowed)
        matcher.extend([token])
        if token in ends:
            assert matcher.allowed_after([]) is None
            return tokens
        tokens.append(token)
    return None


def test_what_is_allowed_to_end_validates(grammars: Grammars, tokenizer: Tokenizer) -> None:
    dice, schemas, num_written = random.Random(1), Schemas(7), 0
    for _ in range(60):
        schema = schemas.next()
        tokens = written(grammars.matcher(json.dumps(schema)), dice, tokenizer.eos_token_ids)
        if tokens is not None:
            num_written += 1
            assert is_valid(tokenizer.decode(tokens), schema), tokenizer.decode(tokens)
    assert num_written > 30


def test_a_path_is_asked_about_without_being_taken(grammars: Grammars, tokenizer: Tokenizer) -> None:
    dice = random.Random(2)
    text = json.dumps(PERSON)
    asked, walked = grammars.matcher(text), grammars.matcher(text)
    path: list[int] = []
    for _ in range(25):
        along = asked.allowed_after(path)
        step = walked.allowed_after([])
        assert (along is None) == (step is None)
        if along is None or step is None:
            break
        assert np.array_equal(along, step)
        assert not along[tokenizer.vocab_size :].any(), "padding is never allowed"
        path.append(dice.choice(np.flatnonzero(along).tolist()))
        walked.extend(path[-1:])
    assert asked.num_tokens == 0
    assert walked.num_tokens == len(path)
    asked.extend(path)
    walked.shorten(3)
    asked.shorten(1)
    asked.extend(path[1:3])
    assert np.array_equal(asked.allowed_after([]), walked.allowed_after([]))  # type: ignore[arg-type]


def test_two_outputs_of_one_schema_are_apart(grammars: Grammars) -> None:
    one, other = grammars.matcher(json.dumps(PERSON)), grammars.matcher(json.dumps(PERSON))
    first = choices(other, [])
    one.extend([first[0]])
    assert choices(other, []) == first
    assert choices(one, []) != first


def test_after_the_end_nothing_is_forbidden(grammars: Grammars, tokenizer: Tokenizer) -> None:
    end = min(tokenizer.eos_token_ids)
    matcher = grammars.matcher('{"const":1}')
    one = tokenizer.encode("1", special=False)[-1]
    assert choices(matcher, [one]) == [end]
    assert matcher.allowed_after([one, end]) is None
    matcher.extend([one, end, 5, 5])
    assert matcher.num_tokens == 4
    assert matcher.allowed_after([]) is None
    matcher.shorten(1)
    assert choices(matcher, []) == [end]
    matcher.shorten(0)
    assert one in choices(matcher, [])


def test_what_the_grammar_forbids_changes_nothing(grammars: Grammars) -> None:
    matcher = grammars.matcher('{"const":"abc"}')
    good = choices(matcher, [])
    bad = next(token for token in range(3, 60) if token not in good)
    for call in (lambda: matcher.extend([good[0], bad]), lambda: matcher.allowed_after([good[0], bad])):
        with pytest.raises(GrammarError, match="forbids"):
            call()
        assert choices(matcher, []) == good
        assert matcher.num_tokens == 0


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("{", "is not a JSON Schema"),
        ({"not": {"const": "secret"}}, 'Unimplemented keys: ["not"]'),
        ({"type": "secret"}, "Invalid type"),
        ({"$ref": "#/secret"}, "is refused"),
        ({"enum": []}, "Unsatisfiable schema"),
        ({"type": "string", "pattern": "secret(?=x)"}, "is refused"),
        ({"$ref": "http://secret/"}, "is refused"),
        ({"x-guidance": {"lenient": True}, "properties": {"a": {"not": {}}}}, "Unimplemented keys"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"], "minProperties": -1}, ""),
    ],
)
def test_a_refusal_says_why_and_quotes_nothing(grammars: Grammars, schema: Any, reason: str) -> None:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    with pytest.raises(GrammarError) as refused:
        grammars.matcher(text)
    assert reason in str(refused.value)
    assert "secret" not in str(refused.value)


def test_white_space_is_bounded_whatever_the_schema_says(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = grammars.matcher(json.dumps({**PERSON, "x-guidance": {"whitespace_flexible": True}}))
    tokens = written(matcher, random.Random(3), tokenizer.eos_token_ids)
    assert tokens is not None
    assert "  " not in tokenizer.decode(tokens).replace('"  "', "")
    assert "\n" not in tokenizer.decode(tokens)


def test_a_model_without_an_end_token_cannot_follow_a_schema(tmp_path: Path) -> None:
    tokenizer = saved(byte_level(), tmp_path)
    with pytest.raises(GrammarError, match="no end token"):
        Grammars(tokenizer, vocab_size=tokenizer.vocab_size, end_ids=()).matcher("{}")
    with pytest.raises(GrammarError, match="cannot be followed"):
        no_grammars("{}").result()


def test_a_grammar_beyond_its_limits_fails_and_says_so(tmp_path: Path) -> None:
    tokenizer = saved(byte_level(), tmp_path)
    grammars = Grammars(tokenizer, vocab_size=tokenizer.vocab_size, end_ids=tokenizer.eos_token_ids)
    with pytest.raises(GrammarError, match="is refused"):
        grammars.matcher(json.dumps({"enum": [f"{index:08x}" for index in range(200_000)]}))


def test_the_referee_knows_invalid_from_valid() -> None:
    assert is_valid('{"name": "abc", "age": 3}', PERSON)
    assert not is_valid('{"name": "abcde", "age": 3}', PERSON)
    assert not is_valid('{"name": "abc"', PERSON)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(3, {"type": "string"})
