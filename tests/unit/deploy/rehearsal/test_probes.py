"""Answers in a row, and what counts as one."""

from __future__ import annotations

import asyncio

import pytest

from deploy.rehearsal.manifests import RehearsalError
from deploy.rehearsal.probes import Probe, Streak, ask, port_number


def test_a_verdict_turns_only_after_enough_answers_of_the_other_kind() -> None:
    probe = Probe.of({"exec": {"command": ["x"]}, "failureThreshold": 3, "successThreshold": 2})
    streak = Streak(probe, holds=True)
    held = []
    for answer in (False, False, True, False, False, False, True, False, True, True):
        streak.heard(answer)
        held.append(streak.holds)
    assert held == [True, True, True, True, True, False, False, False, False, True]


def test_defaults_are_those_of_kubernetes() -> None:
    probe = Probe.of({"tcpSocket": {"port": 1}})
    assert (probe.delay_s, probe.period_s, probe.timeout_s, probe.successes, probe.failures) == (0, 10, 1, 1, 3)


def test_a_field_that_is_not_carried_out_is_refused() -> None:
    with pytest.raises(RehearsalError, match="grpc"):
        Probe.of({"grpc": {"port": 1}})


def test_a_port_may_have_a_name() -> None:
    assert (port_number("http", {"http": 8000}), port_number(9, {})) == (8000, 9)
    with pytest.raises(RehearsalError, match="'web'"):
        port_number("web", {"http": 8000})


@pytest.mark.parametrize(("line", "expected"), [("200 OK", True), ("399 X", True), ("400 No", False), ("", False)])
async def test_an_http_answer_counts_by_its_status(line: str, expected: bool) -> None:
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(f"HTTP/1.1 {line}\r\n\r\n".encode() if line else b"")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    probe = Probe.of({"httpGet": {"path": "/ready", "port": "http"}})
    assert await ask(probe, "127.0.0.1", {"http": port}, never) is expected
    assert asked[0].startswith(b"GET /ready HTTP/1.1\r\n")
    server.close()
    assert await ask(probe, "127.0.0.1", {"http": port}, never) is False


async def never(command: list[str], timeout_s: float) -> int:
    raise AssertionError(command)


async def test_a_command_that_takes_too_long_has_failed() -> None:
    async def slow(command: list[str], timeout_s: float) -> int:
        raise TimeoutError

    assert await ask(Probe.of({"exec": {"command": ["x"]}}), "", {}, slow) is False
