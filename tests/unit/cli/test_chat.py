"""`adaserve chat`: commands, history, pipes and colours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli.chat_commands import BadCommand, Talk, mode_of, obeyed
from cli.completion import Chunk
from cli.main import app
from cli.provenance import DRAFTED, OWN, Painter, show
from tests.unit.cli import fake_gateway
from tests.unit.cli.fake_gateway import FakeGateway


def events(text: str) -> list[dict[str, Any]]:
    return [
        {"choices": [{"delta": {"content": text[:2]}, "finish_reason": None}]},
        {"choices": [{"delta": {"content": text[2:]}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"completion_tokens": 2}, "metrics": {}},
    ]


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway.running() as gateway:
        gateway.events = events("Hello!")
        yield gateway


def chat(gateway: FakeGateway, typed: str, *options: str) -> Any:
    return CliRunner().invoke(app, ["chat", "--url", gateway.url, *options], input=typed)


def test_through_a_pipe_every_line_is_a_question_and_stdout_has_only_answers(gateway: FakeGateway) -> None:
    result = chat(gateway, "Hi\n\nAnd you?\n", "--system", "be short")
    assert (result.exit_code, result.stdout) == (0, "Hello!\nHello!\n")
    assert "2 tokens (stop)" in result.stderr
    assert [message["content"] for message in gateway.asked[1]["messages"]] == [
        "be short",
        "Hi",
        "Hello!",
        "And you?",
    ]
    assert "inspect" not in gateway.asked[0]["adaserve"]  # nobody would see colours


def test_settings_change_what_is_asked(gateway: FakeGateway) -> None:
    typed = "/slo 50\n/seed 7\n/temperature 0\n/tokens 9\n/speculation off\nHi\n"
    typed += "/slo chatbot\n/seed off\n/reset\nHi\n/exit\nHi\n"
    assert chat(gateway, typed).exit_code == 0
    first, second = gateway.asked
    assert first["adaserve"] == {"speculation": {"enabled": False}, "slo": {"tpot_ms": 50.0}}
    assert (first["seed"], first["temperature"], first["max_tokens"]) == (7, 0.0, 9)
    assert second["adaserve"]["slo"] == {"class": "chatbot"}
    assert "seed" not in second
    assert len(second["messages"]) == 1


def test_the_oldest_question_goes_when_the_context_is_full(gateway: FakeGateway) -> None:
    def full(asked: dict[str, Any]) -> None:
        gateway.status, gateway.body = 200, None
        if len(asked["messages"]) > 3:
            gateway.status = 400
            gateway.body = b'{"error": {"message": "too long", "code": "context_length_exceeded"}}'

    gateway.prepare = full
    result = chat(gateway, "one\ntwo\nthree\n")
    assert result.exit_code == 0
    assert "oldest question" in result.stderr
    assert [message["content"] for message in gateway.asked[-1]["messages"]] == ["two", "Hello!", "three"]


def test_old_turns_go_before_the_context_is_full(gateway: FakeGateway) -> None:
    gateway.pages["/v1/models"] = lambda: json.dumps({"data": [{"max_model_len": 40}]})
    gateway.events[-1]["usage"] = {"prompt_tokens": 35, "completion_tokens": 5}
    assert "forgotten" in chat(gateway, "one\ntwo\nthree\n").stderr
    assert [message["content"] for message in gateway.asked[-1]["messages"]] == ["two", "Hello!", "three"]


def test_an_error_is_said_and_the_conversation_goes_on(gateway: FakeGateway) -> None:
    def once(asked: dict[str, Any]) -> None:
        refused = len(gateway.asked) == 1
        gateway.status, gateway.body = (400, b'{"error": {"message": "no"}}') if refused else (200, None)

    gateway.prepare = once
    result = chat(gateway, "Hi\n/dance\nHi\n")
    assert (result.exit_code, result.stdout) == (1, "Hello!\n")
    assert "adaserve: no\n" in result.stderr
    assert "adaserve: /dance: no such command" in result.stderr
    assert len(gateway.asked[1]["messages"]) == 1  # the refused question is not part of it


def test_modes_are_told(gateway: FakeGateway) -> None:
    gateway.pages["/admin/mode"] = lambda: json.dumps({"orders": {}, "verifiers": {}})
    result = chat(gateway, "/mode\n/mode fast\n")
    assert "ordered  cell                     auto\n" in result.stderr
    assert "/mode fast: there are auto" in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "/slo 0",
        "/slo -1",
        "/slo 1e9",
        "/seed 1.5",
        "/seed -9999999999999999999",
        "/temperature 3",
        "/tokens 0",
        "/speculation maybe",
        "/seed x",
    ],
)
def test_bad_values_are_refused_with_their_limits(line: str) -> None:
    with pytest.raises(BadCommand, match=line.split()[0]) as refused:
        obeyed(Talk(), line)
    assert "e+" not in str(refused.value)


def test_a_seed_may_be_negative_as_in_the_api() -> None:
    assert obeyed(Talk(), "/seed -7")[0].question.seed == -7


def test_help_lists_every_command() -> None:
    told = obeyed(Talk(), "/help")[1]
    for name in ("slo", "seed", "temperature", "tokens", "speculation", "mode", "system", "reset", "exit"):
        assert f"/{name}" in told
    assert obeyed(Talk(), "/slo off")[1] == "no target of your own"
    assert obeyed(Talk(), "/temperature off")[0].question.temperature is None
    assert obeyed(Talk(), "/tokens off")[0].question.max_tokens is None
    assert obeyed(Talk(), "/system be brief")[0].asking("x").messages == (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "x"},
    )
    assert mode_of("/mode auto") == "auto"


# ---- colours -----------------------------------------------------------------------------------------------
def painter(gateway: FakeGateway, texts: dict[int, str]) -> Painter:
    def prepare(asked: dict[str, Any]) -> None:
        gateway.body = json.dumps({"prompt": texts[asked["tokens"][0]]}).encode()

    gateway.prepare = prepare
    return Painter(gateway.url, {})


def test_tokens_of_one_chunk_have_their_own_colours(gateway: FakeGateway) -> None:
    mine = painter(gateway, {1: "im", 2: "port", 3: " os"})
    text = mine.painted(Chunk("import os", (1, 2, 3), (True, True, False)))
    assert [(text.plain[span.start : span.end], span.style) for span in text.spans] == [
        ("im", DRAFTED),
        ("port", DRAFTED),
        (" os", OWN),
    ]
    mine.painted(Chunk("import os", (1, 2, 3), (True, True, False)))
    assert len(gateway.asked) == 3  # each token is asked for once


def test_what_is_not_known_has_no_colour(gateway: FakeGateway) -> None:
    mine = painter(gateway, {1: "a", 2: "\ufffd"})
    assert mine.painted(Chunk("ab", (1, 2), (True, False))).spans == []
    assert mine.painted(Chunk("ab")).spans == []
    assert mine.painted(Chunk("ab", (1,), (True, False))).spans == []
    assert mine.painted(Chunk("ab", (1, 2), (True, True))).style == DRAFTED
    assert Painter("http://127.0.0.1:1", {}).painted(Chunk("ab", (1, 2), (True, False))).plain == "ab"


def test_a_pipe_gets_the_very_characters(capsys: pytest.CaptureFixture[str]) -> None:
    show(Console(force_terminal=False), Painter("", {}), Chunk("\ta [b] \x1b[2J\n"))
    assert capsys.readouterr().out == "\ta [b] \x1b[2J\n"
    show(Console(force_terminal=True), Painter("", {}), Chunk("\x1b[2J"))
    assert "␛[2J" in capsys.readouterr().out  # a terminal does not obey a model
