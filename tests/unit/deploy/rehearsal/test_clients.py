"""Clients notice what is wrong with a stream, and repeat only what had not begun."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from deploy.rehearsal.clients import Clients, Question, Seen

QUESTION = Question([1, 2], [7, 8, 9])
KEY = {"authorization": "Bearer sk-1"}
OPERATOR = {"authorization": "Bearer admin"}


def chunk(text: str) -> bytes:
    return f"{len(text):x}\r\n{text}\r\n".encode()


def event(*tokens: int) -> bytes:
    return chunk(f"data: {json.dumps({'choices': [{'token_ids': list(tokens)}]})}\n\n")


HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-adaserve-stream: s\r\n\r\n"
END = chunk("data: [DONE]\n\n") + b"0\r\n\r\n"
CLOSED = b""
WHOLE = HEAD + event(7) + event(8, 9) + END


def refusal(status: str, more: str = "") -> bytes:
    body = json.dumps({"error": {"code": "draining"}})
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{more}\r\n{body}".encode()


@asynccontextmanager
async def gateway(*answers: bytes, takeovers: int = 0) -> AsyncIterator[tuple[tuple[str, int], list[str]]]:
    """Gives the answers one after the other, the last one for ever; closes after one that does not end."""
    following = itertools.chain(answers, itertools.repeat(answers[-1]))
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await answer_one(reader, writer):
                pass
        writer.close()

    async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
        await reader.readexactly(length)
        asked.append(lines[0])
        if lines[0].startswith("GET"):
            body = json.dumps({"takeovers": takeovers})
            answer = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        else:
            answer = next(following)
        writer.write(answer)
        await writer.drain()
        return answer != CLOSED and (not answer.startswith(HEAD) or answer.endswith(b"0\r\n\r\n"))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[:2], asked
    await asyncio.sleep(0.02)  # for the ends of connections to be heard
    server.close()


async def one_client(*answers: bytes, takeovers: int = 0) -> tuple[Seen, list[str]]:
    async with gateway(*answers, takeovers=takeovers) as (address, asked):
        clients = Clients(address, KEY, OPERATOR, 1)
        clients.start(itertools.repeat(QUESTION))
        while not clients.seen.outcomes["whole"] and not clients.seen.damage:
            await asyncio.sleep(0.01)
        await clients.stop()
    return clients.seen, asked


async def test_whole_streams_are_counted_and_connections_kept() -> None:
    seen, asked = await one_client(WHOLE, takeovers=1)
    assert seen.damage == []
    assert seen.num_tokens == 3 * seen.outcomes["whole"]
    assert seen.num_moved == seen.outcomes["whole"]
    assert asked[1] == "GET /admin/requests/s HTTP/1.1"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (HEAD + event(7), "truncated by ConnectionError after 1 tokens"),
        (HEAD + event(7, 8, 9) + b"0\r\n\r\n", "truncated after 3 tokens"),
        (HEAD + event(7, 8) + END, "truncated, and said to be whole after 2 tokens"),
        (HEAD + event(7, 7, 9) + END, "wrong token after 3 tokens"),
        (HEAD + event(7, 8, 9, 9) + END, "wrong token after 4 tokens"),
        (HEAD + chunk('data: {"error": {"code": "draining"}}\n\n') + END, "error draining after 0 tokens"),
        (refusal("400 Bad"), "refused with 400"),
    ],
)
async def test_damage_is_seen(answer: bytes, expected: str) -> None:
    seen, _ = await one_client(answer, WHOLE)
    assert expected in seen.damage[0]


@pytest.mark.parametrize("status", ["503 Unavailable", "429 Too Many"])
async def test_a_refusal_before_the_beginning_is_repeated(status: str) -> None:
    seen, _ = await one_client(refusal(status, "connection: close\r\n"), WHOLE)
    assert seen.damage == []
    assert seen.outcomes[f"{status[:3]} draining"] == 1
    assert (seen.num_refused, seen.num_unanswered) == (1, 0)


async def test_a_connection_that_nobody_takes_is_told_apart_from_a_refusal() -> None:
    clients = Clients(("127.0.0.1", 1), KEY, OPERATOR, 1)
    clients.start(itertools.repeat(QUESTION))
    while not clients.seen.outcomes:
        await asyncio.sleep(0.01)
    assert clients.seen.outcomes["no answer: ConnectionRefusedError"] == 1
    assert (clients.seen.num_refused, clients.seen.num_unanswered) == (0, 1)
    for task in clients._tasks:
        task.cancel()


async def test_so_is_one_that_is_closed_before_the_status_line() -> None:
    seen, asked = await one_client(CLOSED, WHOLE)
    assert seen.outcomes["no answer: ConnectionError"] == seen.num_unanswered == 1
    assert asked[:2] == [asked[0]] * 2  # and it was asked again


def test_quantiles_of_nothing_are_nothing() -> None:
    assert Seen.quantile([], 0.5) == 0
    assert Seen.quantile([3.0, 1.0, 2.0], 0.99) == 3.0
