"""`adaserve up` before and after the services: what they are started with, what the operator is told."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli import ports
from cli.greeting import Place, greet, next_steps
from cli.main import app
from cli.up import Choices, choose_models, choose_ports, tenant_to_name
from cli.voice import Voice
from shared.errors import ConfigurationError
from tests.tiny_tokenizers import byte_level, save
from tests.unit.cli import fake_gateway

WORKERS = ("drafter", "selector", "verifier")


def choices(**given: object) -> Choices:
    nothing: dict[str, object] = {"target": None, "draft": None, "host": None, "port": None}
    return Choices(**(nothing | given))  # type: ignore[arg-type]


def environments() -> dict[str, dict[str, str]]:
    return {service: {} for service in ("gateway", *WORKERS)}


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_models_reach_only_the_services_that_read_them(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    known = {"gateway": {"ADASERVE_TARGET"}, "verifier": {"ADASERVE_TARGET"}, "drafter": {"ADASERVE_DRAFT"}}
    divided = environments()
    frozen = {service: frozenset(names) for service, names in known.items()}
    pair = choose_models(choices(target=str(tmp_path)), {"ADASERVE_DRAFT": "org/draft"}, divided, frozen)
    assert pair == (str(tmp_path), "org/draft")
    assert divided["gateway"] == divided["verifier"] == {"ADASERVE_TARGET": str(tmp_path)}
    assert divided["drafter"] == {"ADASERVE_DRAFT": "org/draft"}
    assert divided["selector"] == {}


def test_the_port_is_the_option_then_the_variable(taken: int) -> None:
    free = ports.any_free("127.0.0.1")
    divided = environments()
    choose_ports(choices(port=free), {"ADASERVE_HTTP_PORT": str(taken)}, divided)
    assert divided["gateway"] == {"ADASERVE_HTTP_HOST": "127.0.0.1", "ADASERVE_HTTP_PORT": str(free)}
    choose_ports(choices(host="localhost"), {"ADASERVE_HTTP_PORT": str(free)}, divided)
    assert divided["gateway"]["ADASERVE_HTTP_HOST"] == "localhost"
    used = [divided[worker]["ADASERVE_HTTP_PORT"] for worker in WORKERS]
    assert len(set(used)) == len(WORKERS)


@pytest.mark.parametrize("value", ["many", "0", "65536", "-1", ""])
def test_a_malformed_port_variable_is_one_line(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ADASERVE_HTTP_PORT=.*1 to 65535"):
        choose_ports(choices(), {"ADASERVE_HTTP_PORT": value}, environments())


PLACE = Place(
    url="http://127.0.0.1:8000",
    redis_url="redis://127.0.0.1:7777/0",
    metrics={"drafter": "http://127.0.0.1:9101/metrics", "verifier": "http://127.0.0.1:9103/metrics"},
    tenant="acme",
)


async def test_the_greeting_streams_and_says_where_to_go_next() -> None:
    output = StringIO()
    voice = Voice(Console(file=output, width=200, highlight=False))
    with fake_gateway.running() as gateway:
        gateway.events = [{"choices": [{"text": "    return n", "finish_reason": "length"}]}]
        await greet(voice, replace(PLACE, url=gateway.url), time.monotonic())
        assert gateway.asked[0]["stream"] is True
        assert gateway.headers[0]["x-adaserve-tenant"] == "acme"
    for part in ("class Stack", "return n", "first token", "curl -N", "OpenAI(base_url", "adaserve complete"):
        assert part in output.getvalue()


def test_the_next_steps_are_whole_commands() -> None:
    told = next_steps(PLACE)
    pages = "--metrics http://127.0.0.1:9101/metrics --metrics http://127.0.0.1:9103/metrics"
    assert f"--url http://127.0.0.1:8000 --tenant acme {pages}\n" in told
    assert "doctor --url http://127.0.0.1:8000 --redis redis://127.0.0.1:7777/0 --tenant acme\n" in told
    assert "-H 'x-adaserve-tenant: acme'" in told
    assert "tenant" not in next_steps(replace(PLACE, tenant=None))


def test_no_line_lands_in_streamed_text() -> None:
    output = StringIO()
    voice = Voice(Console(file=output, width=80))
    with voice.streaming() as console:
        console.print("def ", end="")
        voice.say("gateway", "a line of its log")
        console.print("main", end="")
    voice.say("up", "done")
    assert output.getvalue().splitlines() == ["def main", "gateway  | a line of its log", "up       | done"]


def test_lines_are_not_held_back_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.voice.MAX_HELD_S", -1.0)
    output = StringIO()
    voice = Voice(Console(file=output, width=80))
    with voice.streaming() as console:
        console.print("def ", end="")
        voice.say("gateway", "why it takes so long")
        assert "gateway  | why it takes so long" in output.getvalue()


def test_where_no_tenant_is_called_default_the_first_is_named(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    text = "classes: {fast: {tpot_ms: 30, objective: 0.9}}\ntenants:\n"
    policy.write_text(text + "  acme: {classes: [fast], default: fast}\n  b: {classes: [fast], default: fast}\n")
    assert tenant_to_name(str(policy)) == "acme"
    policy.write_text(
        text + "  b: {classes: [fast], default: fast}\n  default: {classes: [fast], default: fast}\n"
    )
    assert tenant_to_name(str(policy)) is None
    assert tenant_to_name(None) is None


def up(*options: str, **environment: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["up", *options], env=environment)
    return result.exit_code, result.stderr


def test_what_keeps_it_from_starting_is_one_line_and_an_exit_code(tmp_path: Path, taken: int) -> None:
    save(byte_level(), tmp_path)
    other = str(save(byte_level(vocab_size=300), tmp_path / "other"))
    pair = ("--target", str(tmp_path), "--draft", str(tmp_path))
    free = ("--port", str(ports.any_free("127.0.0.1")))
    cases = [
        (up("--target", str(tmp_path / "missing")), 2, "no readable config.json"),
        (up(*pair, "--port", str(taken)), 2, f"port {taken} on 127.0.0.1 is in use"),
        (up(*pair, *free, REDIS_URL="redis://127.0.0.1:1/0"), 3, "does not answer"),
        (up("--target", str(tmp_path), "--draft", other, *free), 2, "do not share their tokens: token id"),
        (up(*pair, ADASERVE_TARGTE="x"), 2, "did you mean ADASERVE_TARGET"),
    ]
    for (code, line), expected, words in cases:
        assert code == expected
        assert words in line
        assert line.count("\n") == 1
