"""A served gateway on real Redis with a fake verifier behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
import uvicorn
from redis import Redis

from services.gateway.app import create_app
from services.gateway.bus import Bus
from services.gateway.handler import Gateway
from services.gateway.settings import GatewaySettings
from shared.messages import Request
from shared.policy import Policy
from shared.streams import connect, connect_async
from shared.telemetry import configure
from shared.tokenizer import Tokenizer, load_tokenizer
from shared.topics import Keys
from tests import tiny_tokenizers
from tests.unit.services.gateway.fake_verifier import FakeVerifier, Reply

NO_TLS = False  # nobody is asked for a certificate; reading the known ones takes each client a tenth of a second
ANSWER = "hello wörld 🙂, how are you?"


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Served:
    """A running gateway and what a test needs to look at it."""

    url: str
    gateway: Gateway
    tokenizer: Tokenizer
    verifier: FakeVerifier
    keys: Keys
    redis: Redis
    http: httpx.AsyncClient
    openai: openai.AsyncOpenAI

    def answers(self, reply: Reply | Callable[[Request], Reply]) -> None:
        self.verifier.script = reply if callable(reply) else lambda _: reply

    def status(self, request: str) -> str:
        value = self.redis.hget(self.keys.request(request), "status")
        return value.decode() if isinstance(value, bytes) else "missing"

    async def until(self, holds: Callable[[], Any]) -> None:
        """Waits; the test's own timeout ends it, or the verifier's failure."""
        while not holds():
            for task in self.verifier.tasks:
                if task.done() and not task.cancelled():
                    task.result()
            await asyncio.sleep(0.005)


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokenizers.save(tiny_tokenizers.byte_level(), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tokenizer(model_directory: Path) -> Tokenizer:
    return load_tokenizer(model_directory)


NEW_ATTACHMENT = Bus.new_attachment


@pytest.fixture(autouse=True)
def countable_attachments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections count from 41, so that a test can wait for the one after."""
    monkeypatch.setattr(Bus, "new_attachment", lambda bus: 41)


@pytest.fixture
def options() -> dict[str, Any]:
    """Settings of the gateway that a test overrides."""
    return {}


@pytest.fixture
def policy() -> Policy | None:
    """Classes and tenants, for a test that overrides this."""
    return None


@pytest_asyncio.fixture
async def front(
    redis_url: str, keys: Keys, model_directory: Path, tokenizer: Tokenizer
) -> AsyncIterator[httpx.AsyncClient]:
    """The application without a server: for requests that are refused at the door."""
    verifier = FakeVerifier(redis_url, keys, lambda _: Reply([]))
    verifier.client = connect_async(redis_url)
    await verifier.beat()
    settings = GatewaySettings(redis_url=redis_url, cell=keys.cell, name="gateway", target=str(model_directory))
    telemetry = configure("gateway", "test")
    gateway = Gateway(settings, "gateway.test", tokenizer, telemetry)
    await gateway.start()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(gateway)), base_url="http://localhost"
    ) as client:
        yield client
    await gateway.stop()
    await verifier.client.aclose()
    telemetry.shutdown()


@asynccontextmanager
async def serving(gateway: Gateway) -> AsyncIterator[str]:
    """The gateway behind a port of its own; gives its URL."""
    await gateway.start()
    config = uvicorn.Config(create_app(gateway), port=0, lifespan="off", log_config=None, access_log=False)
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task
    await gateway.stop()


@pytest_asyncio.fixture
async def served(
    redis_url: str,
    keys: Keys,
    model_directory: Path,
    tokenizer: Tokenizer,
    options: dict[str, Any],
    policy: Policy | None,
) -> AsyncIterator[Served]:
    words = tokenizer.encode(ANSWER, special=False)
    verifier = FakeVerifier(redis_url, keys, lambda _: Reply([words[:2], words[2:7], words[7:]]))
    await verifier.start()
    settings = GatewaySettings(
        redis_url=redis_url, cell=keys.cell, name="gateway", target=str(model_directory), **options
    )
    telemetry = configure("gateway", "test")
    gateway = Gateway(settings, "gateway.test", tokenizer, telemetry, policy)
    redis = connect(redis_url)
    async with (
        serving(gateway) as url,
        httpx.AsyncClient(base_url=url, timeout=30, verify=NO_TLS) as http,
        openai.AsyncOpenAI(
            base_url=f"{url}/v1",
            api_key="none",
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(verify=NO_TLS),
        ) as client,
    ):
        yield Served(url, gateway, tokenizer, verifier, keys, redis, http, client)
    await verifier.stop()
    redis.close()
    telemetry.shutdown()


@dataclass
class Other:
    """Another gateway of the same cell."""

    gateway: Gateway
    http: httpx.AsyncClient


@pytest_asyncio.fixture
async def other(served: Served) -> AsyncIterator[Other]:
    gateway = Gateway(served.gateway.settings, "gateway.other", served.tokenizer, served.gateway.telemetry)
    async with serving(gateway) as url, httpx.AsyncClient(base_url=url, timeout=30, verify=NO_TLS) as http:
        yield Other(gateway, http)
