"""`adaserve complete`: streamed text, figures, and refusals in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.completion import Answer, Question, summary
from cli.main import app
from tests.unit.cli import fake_gateway
from tests.unit.cli.fake_gateway import FakeGateway

METRICS: dict[str, Any] = {
    "time_to_first_token_ms": 31.4,
    "mean_itl_ms": 9.0,
    "speculative_decoding": {"mean_acceptance_length": 3.25, "draft_acceptance_rate": 0.5},
    "slo": {"tpot_target_ms": 30, "tpot_ms": 8.5, "met": True},
}
ID = "cmpl-" + "0a" * 16
EVENTS: list[dict[str, Any]] = [
    {"id": ID, "choices": [{"text": "impo", "finish_reason": None}]},
    {"choices": [{"text": "rt os", "finish_reason": "length"}]},
    {"choices": [], "usage": {"completion_tokens": 2}, "metrics": METRICS},
]


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway.running() as gateway:
        gateway.events = EVENTS
        yield gateway


def complete(gateway: FakeGateway, *options: str) -> Any:
    return CliRunner().invoke(app, ["complete", "a prompt", "--url", gateway.url, *options])


def test_who_asks_is_told(gateway: FakeGateway) -> None:
    assert complete(gateway, "--api-key", "sk-a-b", "--tenant", "acme").exit_code == 0
    assert gateway.headers[-1]["authorization"] == "Bearer sk-a-b"
    assert gateway.headers[-1]["x-adaserve-tenant"] == "acme"


def test_text_goes_to_stdout_and_figures_to_stderr(gateway: FakeGateway) -> None:
    result = complete(gateway)
    assert (result.exit_code, result.stdout) == (0, "import os\n")
    assert result.stderr.strip() == (
        "2 tokens (length) · first after 31 ms · 8.5 ms per token (target 30 ms: met) · "
        "3.25 tokens per verification · 50% of the verified draft tokens accepted · " + ID
    )


def test_options_reach_the_request(gateway: FakeGateway) -> None:
    complete(
        gateway, "--max-tokens", "7", "--temperature", "0.5", "--seed", "3", "--tpot-ms", "30", "--no-speculation"
    )
    assert gateway.asked == [
        {
            "model": "default",
            "prompt": "a prompt",
            "max_tokens": 7,
            "temperature": 0.5,
            "seed": 3,
            "stream": True,
            "stream_options": {"include_usage": True},
            "adaserve": {"speculation": {"enabled": False}, "slo": {"tpot_ms": 30.0}},
        }
    ]


def test_json_is_one_object(gateway: FakeGateway) -> None:
    printed = json.loads(complete(gateway, "--json").stdout)
    assert printed == {
        "id": ID,
        "text": "import os",
        "finish_reason": "length",
        "usage": {"completion_tokens": 2},
        "metrics": METRICS,
    }


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{"error": {"message": "max_tokens must be at least 1"}}', "max_tokens must be at least 1"),
        (b"<html>", "the gateway answered 400"),
        (b"{}", "the gateway answered 400"),
    ],
)
def test_a_refusal_is_one_line(gateway: FakeGateway, body: bytes, line: str) -> None:
    gateway.status, gateway.body = 400, body
    result = complete(gateway)
    assert (result.exit_code, result.stderr) == (1, f"adaserve: {line}\n")


def test_an_error_inside_the_stream_ends_it(gateway: FakeGateway) -> None:
    gateway.events = [EVENTS[0], {"error": {"message": "detached"}}]
    result = complete(gateway)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "impo", "adaserve: detached\n")


def test_a_cut_stream_is_not_taken_for_a_finished_one(gateway: FakeGateway) -> None:
    gateway.events = EVENTS[:1]
    assert "without a finish reason" in complete(gateway).stderr


@pytest.mark.parametrize("options", [("--api-key", "schlüssel"), ("--tenant", "a\nb"), ("--tpot-ms", "0")])
@pytest.mark.parametrize("command", [("complete", "x"), ("chat",), ("doctor",)])
def test_what_no_request_can_hold_is_refused_before_it_is_sent(command: Any, options: Any) -> None:
    if (command, options[0]) == (("doctor",), "--tpot-ms"):
        return
    result = CliRunner().invoke(app, [*command, *options], env={"COLUMNS": "200"})
    assert (result.exit_code, "Traceback" in result.stderr) == (2, False)
    assert "adaserve: the " in result.stderr or "--tpot-ms" in result.stderr


@pytest.mark.parametrize("command", [("usage",), ("mode",), ("keys", "list"), ("top",), ("why", "0a" * 16)])
def test_an_admin_key_that_no_header_can_hold_is_one_line(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*command, "--admin-key", "schlüssel"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "the key has characters other than printable ASCII" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("mode", "bogus"), ("usage", "--by", "bogus"), ("keys", "create", "--scope", "x")]
)
def test_a_bad_choice_is_told_in_plain_words(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200"})
    assert (result.exit_code, "Value error" in result.stderr) == (2, False)
    assert "is not one of" in result.stderr


def test_a_time_that_is_none_is_named_with_its_option() -> None:
    result = CliRunner().invoke(app, ["usage", "--since", "yesterday"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "--since 'yesterday' must be a date or time" in result.stderr
    assert "such as 30d" in result.stderr


def test_no_gateway_and_no_url_are_one_line() -> None:
    for url, words in (
        ("http://127.0.0.1:1", "no gateway at"),
        ("http://a:b", "is not a URL"),
    ):
        result = CliRunner().invoke(app, ["complete", "x", "--url", url])
        assert result.exit_code == 1
        assert words in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["ftp://a", "a:8000"])
def test_a_url_must_say_how_the_gateway_is_reached(url: str) -> None:
    result = CliRunner().invoke(app, ["complete", "x", "--url", url])
    assert result.exit_code == 2
    assert f"'{url}' begins with neither http:// nor" in result.stderr


def test_figures_that_are_missing_are_left_out() -> None:
    assert summary(Answer(finish_reason="stop")) == "? tokens (stop)"
    missed = Answer(finish_reason="stop", metrics={"slo": {"tpot_target_ms": 5, "tpot_ms": 8.0, "met": False}})
    assert summary(missed) == "? tokens (stop) · 8.0 ms per token (target 5 ms: missed)"


def test_the_question_leaves_defaults_to_the_gateway() -> None:
    assert {"temperature", "seed"}.isdisjoint(Question(prompt="x").body())


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(app, ["version"]).stdout.count(".") == 2
