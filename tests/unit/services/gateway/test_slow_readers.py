"""A client that does not read its stream, over a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.unit.services.gateway.conftest import Served
from tests.unit.services.gateway.fake_verifier import Reply

PROMPT = "slow"
STEPS = [[66, 67] * 16] * 700  # with token ids, ten times what the socket's buffers hold
FAST = [[70], [71], [72]]


def unread_stream(served: Served, body: dict[str, Any]) -> socket.socket:
    """A connection that has asked and takes no more than a few kilobytes of the answer."""
    address = urlsplit(served.url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((address.hostname, address.port))
    content = json.dumps({"model": "tiny", "stream": True, "return_token_ids": True, **body}).encode()
    head = (
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n"
    )
    client.sendall(head % len(content) + content)
    return client


@pytest_asyncio.fixture(autouse=True)
async def long_answers(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.tokenizer, "context_limit", None)
    served.verifier.about["context_limit"] = 100_000
    served.answers(lambda request: Reply(STEPS if request.max_tokens > 1000 else FAST))
    await served.until(lambda: served.gateway.context_limit == 100_000)


@pytest.mark.parametrize(
    ("options", "is_resumable"), [({"slow_client_s": 0.4}, False), ({"slow_client_s": 0.4}, True)]
)
async def test_it_is_given_up_and_others_do_not_wait_for_it(
    served: Served, options: dict[str, Any], is_resumable: bool
) -> None:
    body = {"prompt": PROMPT, "max_tokens": len(STEPS) * 32, "adaserve": {"resumable": is_resumable}}
    client = unread_stream(served, body)
    await served.until(lambda: served.verifier.requests)
    request = served.verifier.requests[0].request
    other = await served.http.post("/v1/completions", json={"prompt": "quick", "max_tokens": 3})
    assert other.json()["usage"]["completion_tokens"] == 3
    await served.until(lambda: request not in served.gateway._streams._open)
    if is_resumable:  # nothing is lost: the journal tells it whole
        await served.until(lambda: served.status(request) == "finished")
        told = (await served.http.get(f"/v1/streams/{request}")).text
        assert told.endswith("data: [DONE]\n\n")
    client.close()


@pytest.mark.parametrize("options", [{"slow_client_s": 30.0}])
async def test_one_that_reads_late_gets_all(served: Served, options: dict[str, Any]) -> None:
    client = unread_stream(served, {"prompt": PROMPT, "max_tokens": len(STEPS) * 32})
    await served.until(lambda: served.verifier.requests)
    request = served.verifier.requests[0].request
    await served.until(lambda: served.status(request) == "finished")
    client.setblocking(False)
    received = b""
    while b"data: [DONE]" not in received:
        received += await asyncio.get_running_loop().sock_recv(client, 1 << 16)
    events = [line for line in received.split(b"\n") if b"token_ids" in line]
    tokens = [token for event in events for token in json.loads(event[5:])["choices"][0].get("token_ids") or []]
    assert tokens == [token for step in STEPS for token in step]
    client.close()
