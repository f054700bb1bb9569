"""`adaserve up` before and after the services: what they are started with, what the operator is told."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli import ports
from cli.main import app
from cli.up import Choices, choose_models, choose_ports, greet
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


async def test_the_greeting_streams_and_says_where_to_go_next() -> None:
    output = StringIO()
    with fake_gateway.running() as gateway:
        gateway.events = [{"choices": [{"text": "    return n", "finish_reason": "length"}]}]
        await greet(Console(file=output, width=200, highlight=False), gateway.url, time.monotonic())
        assert gateway.asked[0]["stream"] is True
    for part in ("class Stack", "return n", "first token", "curl -N", "OpenAI(base_url", "adaserve complete"):
        assert part in output.getvalue()


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
