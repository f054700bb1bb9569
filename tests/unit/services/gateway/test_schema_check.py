"""Clients' schemas are tried by a process that may be killed: reasons, limits, what happens when it dies."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.structured import hostile
from services.gateway import schema_check, schema_compiler
from services.gateway.errors import ApiError
from services.gateway.schema_check import SchemaCheck
from shared.grammar import Grammars
from shared.tokenizer import load_tokenizer
from tests.tiny_tokenizers import byte_level, save


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(byte_level(), tmp_path_factory.mktemp("target"))


@pytest.fixture
async def check(target: Path) -> AsyncIterator[SchemaCheck]:
    checking = SchemaCheck(str(target))
    yield checking
    await checking.stop()


async def refused(check: SchemaCheck, schema: object, tenant: str = "acme") -> ApiError:
    with pytest.raises(ApiError) as caught:
        await check.check(schema if isinstance(schema, str) else json.dumps(schema), tenant)
    return caught.value


async def test_good_schemas_pass_and_bad_ones_are_told_why(check: SchemaCheck) -> None:
    await check.check('{"type":"object","properties":{"a":{"type":"string"}}}', "acme")
    error = await refused(check, {"type": "secret", "description": "ü"})
    assert (error.status, error.code, error.param) == (400, "invalid_json_schema", schema_check.PARAM)
    assert error.message == f"{schema_check.PARAM}: is refused: Invalid type (schema of 43 bytes)"
    assert "secret" not in error.message


async def test_no_refusal_quotes_a_pattern(check: SchemaCheck) -> None:
    overlapping = {"^canary.*$": {"type": "integer"}, "^.*x$": {"type": "string"}}
    error = await refused(check, {"type": "object", "patternProperties": overlapping})
    assert "patternProperty regexes" in error.message
    assert "canary" not in error.message


async def test_what_takes_too_long_is_killed_and_the_next_one_is_served(check: SchemaCheck) -> None:
    await check.check("{}", "acme")
    refusals = {}
    for name, schema in hostile().items():
        started = time.monotonic()
        try:
            await check.check(json.dumps(schema), "acme")
        except ApiError as error:
            refusals[name] = error.message
        assert time.monotonic() - started < 5, "a fork is killed after 0.8 s at the latest"
    assert any(schema_compiler.TOO_COMPLEX in message for message in refusals.values())
    assert len(refusals) >= 5
    await check.check('{"type":"integer"}', "acme")


async def test_what_is_known_is_not_asked_again(check: SchemaCheck) -> None:
    await check.check("{}", "acme")
    first = (await refused(check, {"type": "x"})).message
    await check.stop()
    await check.check("{}", "acme")
    assert (await refused(check, {"type": "x"})).message == first
    assert check._process is None


async def test_one_schema_of_many_clients_is_asked_once(check: SchemaCheck) -> None:
    asked = [asyncio.create_task(check.check('{"type":"null"}', "acme")) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(check._asking) == 1
    asked[0].cancel()  # who leaves does not take the answer along
    await asyncio.gather(*asked[1:])
    assert not check._asking


async def test_a_process_that_dies_is_started_again(check: SchemaCheck) -> None:
    await check.check("{}", "acme")
    assert check._process is not None
    os.kill(check._process.pid, 9)
    await check._process.wait()
    await check.check('{"type":"boolean"}', "acme")


async def test_a_process_that_is_stuck_is_replaced(check: SchemaCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    await check.check("{}", "acme")
    assert check._process is not None
    os.kill(check._process.pid, 19)  # SIGSTOP
    monkeypatch.setattr(schema_check, "ANSWER_S", 0.1)
    error = await refused(check, {"type": "boolean"})
    assert (error.status, error.code) == (503, "unavailable")
    monkeypatch.undo()
    await check.check('{"type":"boolean"}', "acme")


async def test_who_waits_too_long_for_a_turn_is_told(check: SchemaCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_check, "QUEUE_S", 0.05)
    async with check._turns.turn("globex"):
        error = await refused(check, {"type": "boolean"})
    assert (error.status, error.retry_after_s) == (503, 1.0)


async def test_a_tenant_with_many_schemas_holds_up_nobody_else(check: SchemaCheck) -> None:
    """Also not by asking first for what the other one will ask."""
    await check.check("{}", "acme")
    told: list[str] = []

    async def ask(tenant: str, value: int) -> None:
        await check.check(json.dumps({"const": value}), tenant)
        told.append(tenant)

    many = [asyncio.create_task(ask("acme", value)) for value in range(40)]
    await asyncio.sleep(0)
    await ask("globex", 39)
    assert len(told) <= 4
    await asyncio.gather(*many)


async def test_what_a_busy_machine_ended_is_tried_again(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock's limit is no word about the schema; it is not remembered."""
    tokenizer = load_tokenizer(target)
    grammars = Grammars(tokenizer, vocab_size=tokenizer.vocab_size, end_ids=tokenizer.eos_token_ids)
    monkeypatch.setattr(schema_compiler, "WALL_S", 0.05)
    monkeypatch.setattr(schema_compiler, "refusal", lambda *_: time.sleep(9))
    assert schema_compiler._tried(grammars, "{}") is None
    monkeypatch.setattr(schema_compiler, "WALL_S", 9.0)
    monkeypatch.setattr(schema_compiler, "refusal", lambda *_: sum(range(10**9)))
    assert schema_compiler._tried(grammars, "{}") == schema_compiler.TOO_COMPLEX
    answers = [None, ""]

    async def ask(_: str) -> str | None:
        return answers.pop(0)

    checking = SchemaCheck(str(target))
    monkeypatch.setattr(checking, "_ask", ask)
    assert (await refused(checking, {})).status == 503
    await checking.check("{}", "acme")


async def test_a_model_that_cannot_be_read_is_a_503(tmp_path: Path) -> None:
    check = SchemaCheck(str(tmp_path / "nothing"))
    assert (await refused(check, {})).status == 503
    await check.stop()


async def test_the_oldest_outcomes_are_forgotten(check: SchemaCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_check, "MAX_KNOWN", 2)
    for value in (1, 2, 1, 3):
        await check.check(json.dumps({"const": value}), "acme")
    assert len(check._known) == 2
    await check.stop()
    await check.check('{"const": 1}', "acme")
    assert check._process is None, "1 was used again, 2 was not"


def test_compiling_in_place_says_the_same(target: Path) -> None:
    tokenizer = load_tokenizer(target)
    grammars = Grammars(tokenizer, vocab_size=tokenizer.vocab_size, end_ids=tokenizer.eos_token_ids)
    assert schema_compiler.refusal(grammars, "{}") == ""
    assert schema_compiler.refusal(grammars, '{"type":"x"}') == "is refused: Invalid type"
