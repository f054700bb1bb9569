"""The draft of a structured output stays inside its grammar, through every change of its context."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.drafter.drafter import Drafter
from services.drafter.guide import Guide, paths
from shared.grammar import Grammars, Matcher, no_grammars
from shared.inference.blocks import BlockPool
from shared.tokenizer import Tokenizer, load_tokenizer
from shared.tree import TokenTree
from tests.ring import at_once
from tests.table_model import TableModel, TableRunner
from tests.tiny_tokenizers import byte_level, save
from tests.unit.services.drafter.test_drafter import message

SCHEMA = json.dumps({"type": "object", "properties": {"a": {"enum": ["xyz", "xyw", 17]}}, "required": ["a"]})
PROMPT = [5, 6, 7]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    return load_tokenizer(str(save(byte_level(), folder)))


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer, vocab_size=tokenizer.vocab_size, end_ids=tokenizer.eos_token_ids)


def new_drafter(tokenizer: Tokenizer, grammars: Grammars) -> Drafter:
    runner = TableRunner(TableModel(tokenizer.vocab_size), 256)
    limits = {"max_tokens": 64, "catch_up": 60, "warm_chunk": 5}
    return Drafter(runner, BlockPool(64, 4), compile_schema=at_once(grammars.matcher), **limits)


def asked(context: list[int], base: int = 0, schema: str = SCHEMA, **changes: Any) -> Any:
    told = schema.encode() if base == 0 else b""
    return message(
        [context],
        base=[base],
        committed=np.array([len(context) - len(PROMPT)], np.int32),
        schema=np.frombuffer(told, np.uint8),
        schema_offsets=np.array([0, len(told)], np.int32),
        **changes,
    )


def nodes_allowed(tree: TokenTree, grammars: Grammars, output: list[int]) -> bool:
    matcher = grammars.matcher(SCHEMA)
    matcher.extend(output)
    for path in paths(tree, range(len(tree))):
        allowed = matcher.allowed_after(path[:-1])
        if allowed is not None and not allowed[path[-1]]:
            return False
    return True


def test_every_node_is_inside_the_grammar(tokenizer: Tokenizer, grammars: Grammars) -> None:
    drafter = new_drafter(tokenizer, grammars)
    output = tokenizer.encode('{"a":', special=False)
    [tree] = drafter.draft(asked(PROMPT)).trees
    assert len(tree) > 2
    assert nodes_allowed(tree, grammars, [])
    context = PROMPT + output
    [tree] = drafter.draft(asked(context, base=len(PROMPT))).trees
    assert len(tree) > 2
    assert nodes_allowed(tree, grammars, output)
    free = new_drafter(tokenizer, grammars).draft(message([context])).trees
    assert not nodes_allowed(free[0], grammars, output), "the model would rather write something else"


def test_a_context_that_shrinks_and_grows_again(tokenizer: Tokenizer, grammars: Grammars) -> None:
    drafter = new_drafter(tokenizer, grammars)
    output = tokenizer.encode('{"a":"xyz"', special=False)
    drafter.draft(asked(PROMPT + output))
    shorter = tokenizer.encode('{"a":', special=False)
    [tree] = drafter.draft(asked(PROMPT + shorter, base=len(PROMPT) + len(shorter))).trees
    assert len(tree) > 1
    assert nodes_allowed(tree, grammars, shorter)


def test_after_the_end_the_draft_is_free(tokenizer: Tokenizer, grammars: Grammars) -> None:
    drafter = new_drafter(tokenizer, grammars)
    output = [*tokenizer.encode('{"a":17}', special=False), *tokenizer.eos_token_ids]
    [tree] = drafter.draft(asked(PROMPT + output)).trees
    assert len(tree) > 2


def test_what_cannot_be_followed_is_drafted_without(tokenizer: Tokenizer, grammars: Grammars) -> None:
    for schema, output in (('{"type":"strang"}', []), (SCHEMA, [9, 9, 9])):
        [tree] = new_drafter(tokenizer, grammars).draft(asked(PROMPT + output, schema=schema)).trees
        assert len(tree) > 2
    assert Guide.of(no_grammars, "", 0) is None


def test_a_grammar_that_fails_midway_lets_go(grammars: Grammars) -> None:
    guide = Guide(at_once(grammars.matcher)(SCHEMA), 0)
    guide.follow([], 0)
    assert guide.allowed_after([]) is not None
    assert guide.allowed_after([9, 9]) is None
    assert guide.allowed_after([]) is None
    guide.follow([9, 9], 0)
    assert guide.allowed_after([]) is None


def test_paths_of_nodes() -> None:
    tree = TokenTree(np.array([4, 5, 6], np.int32), np.array([-1, 0, -1], np.int16), np.zeros(3, np.float32))
    assert paths(tree, [0, 1, 2]) == [[4], [4, 5], [6]]
    assert paths(tree, [1]) == [[4, 5]]
    assert paths(tree, []) == []


def test_the_draft_is_free_until_the_grammar_is_there(grammars: Grammars, tokenizer: Tokenizer) -> None:
    compiling: Future[Matcher] = Future()
    guide = Guide(compiling, len(PROMPT))
    output = tokenizer.encode('{"a":', special=False)
    guide.follow(PROMPT, 0)
    assert guide.allowed_after([]) is None
    compiling.set_result(grammars.matcher(SCHEMA))
    assert guide.allowed_after([]) is None, "it has not read the context"
    guide.follow(PROMPT + output, len(PROMPT))
    expected = grammars.matcher(SCHEMA)
    expected.extend(output)
    assert np.array_equal(guide.allowed_after([]), expected.allowed_after([]))  # type: ignore[arg-type]


def test_trees_drafted_ahead_are_those_drafted_afterwards(tokenizer: Tokenizer, grammars: Grammars) -> None:
    """With an outcome inside the grammar that has come true."""
    ahead, after = new_drafter(tokenizer, grammars), new_drafter(tokenizer, grammars)
    ahead.ahead.is_on = True
    for drafter in (ahead, after):
        drafter.draft(asked(PROMPT))
    while ahead.ahead.has_work:
        ahead.ahead.advance()
    [draft] = ahead._rows.values()
    tokens = draft.branches[0].tokens
    context = PROMPT + tokens
    found, expected = (drafter.draft(asked(context, base=len(PROMPT))) for drafter in (ahead, after))
    assert found.ahead.tolist() == [3]
    assert found.trees[0].tokens.tolist() == expected.trees[0].tokens.tolist()
    assert nodes_allowed(found.trees[0], grammars, tokens)
