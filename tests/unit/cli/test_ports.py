"""Ports: the user's choice is refused when taken, a preference gives way."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from cli import ports
from shared.errors import ConfigurationError

HOST = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_refused_by_name_and_avoided_as_a_preference(taken: int) -> None:
    with pytest.raises(ConfigurationError, match=f"port {taken} on {HOST} is in use"):
        ports.require(HOST, taken)
    other = ports.prefer(HOST, taken)
    assert other != taken
    assert ports.require(HOST, other) == ports.prefer(HOST, other) == other


def test_an_unusable_host_is_one_clear_line() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot listen on host 'no host\.invalid'"):
        ports.is_free("no host.invalid", 80)
