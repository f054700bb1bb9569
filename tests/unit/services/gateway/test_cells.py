"""Several cells: on one Redis without touching each other, tenants in one each, and a cell behind a cell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis import Redis

from services.gateway.handler import Gateway
from services.gateway.settings import GatewaySettings, secret
from shared.policy import Policy
from shared.telemetry import configure
from shared.tokenizer import Tokenizer
from shared.topics import Keys
from tests.key_files import made_for_file
from tests.unit.services.gateway.conftest import NO_TLS, serving
from tests.unit.services.gateway.fake_verifier import FakeVerifier, Reply

CLASSES = {"chat": {"tpot_ms": 5000}}


@dataclass
class Cell:
    """A gateway that serves, and a verifier whose answers are the cell's own."""

    url: str
    http: httpx.AsyncClient
    verifier: FakeVerifier
    keys: Keys

    async def ask(self, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(
            "/v1/completions", json={"prompt": "x", "return_token_ids": True}, headers=sent
        )


Open = Callable[..., Awaitable[Cell]]


def policy_of(*tenants: str, **more: Any) -> Policy:
    each = {"classes": ["chat"], "default": "chat"}
    return Policy.model_validate({"classes": CLASSES, "tenants": dict.fromkeys(tenants, each), **more})


@pytest_asyncio.fixture
async def open_cell(
    redis_client: Redis, redis_url: str, model_directory: Path, tokenizer: Tokenizer
) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def opened(name: str, token: int, policy: Policy | None = None, **options: Any) -> Cell:
            keys = Keys(name)
            verifier = FakeVerifier(redis_url, keys, lambda _: Reply([[token]]))
            await verifier.start()
            stack.push_async_callback(verifier.stop)
            settings = GatewaySettings(
                redis_url=redis_url, cell=name, name="gateway", target=str(model_directory), **options
            )
            telemetry = configure("gateway", f"test-{name}")
            stack.callback(telemetry.shutdown)
            gateway = Gateway(settings, f"gateway.{name}", tokenizer, telemetry, policy)
            url = await stack.enter_async_context(serving(gateway))
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30, verify=NO_TLS))
            return Cell(url, http, verifier, keys)

        yield opened


def tokens(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    found: list[int] = answer.json()["choices"][0]["token_ids"]
    return found


async def test_two_cells_on_one_redis_touch_nothing_of_each_other(open_cell: Open, redis_client: Redis) -> None:
    one, two = await open_cell("one", 5), await open_cell("two", 7)
    answers = [await cell.ask() for cell in (one, two)]
    assert [tokens(answer) for answer in answers] == [[5], [7]]
    request = one.verifier.requests[-1].request
    assert (await one.http.get(f"/v1/streams/{request}")).status_code == 200
    assert (await two.http.get(f"/v1/streams/{request}")).status_code == 404
    assert (await two.http.get("/admin/live")).json()["cell"] == "two"
    names = {key.partition(b":")[0] for key in redis_client.keys("*")}
    assert names == {b"{one}", b"{two}"}


@pytest.fixture
def key_file(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """One file for all cells, and the key of each tenant."""
    made = {tenant: made_for_file("--tenant", tenant) for tenant in ("acme", "globex")}
    path = tmp_path / "keys.yaml"
    path.write_text("keys:\n" + "".join(entry for entry, _ in made.values()))
    return path, {tenant: f"Bearer {key}" for tenant, (_, key) in made.items()}


async def test_a_request_that_comes_to_the_wrong_cell_is_refused_by_name(
    open_cell: Open, key_file: tuple[Path, dict[str, str]]
) -> None:
    """The same file of keys everywhere; which tenants a cell has is its policy's to say."""
    path, bearers = key_file
    one = await open_cell("one", 5, policy_of("acme"), keys_file=path)
    two = await open_cell("two", 7, policy_of("globex"), keys_file=path)
    assert tokens(await one.ask(authorization=bearers["acme"])) == [5]
    assert tokens(await two.ask(authorization=bearers["globex"])) == [7]
    strayed = await one.ask(authorization=bearers["globex"])
    assert (strayed.status_code, strayed.json()["error"]["code"]) == (403, "unknown_tenant")
    assert one.verifier.requests[-1].tenant == "acme"


async def test_the_header_that_a_route_goes_by_must_be_the_keys_tenant(
    open_cell: Open, key_file: tuple[Path, dict[str, str]]
) -> None:
    path, bearers = key_file
    one = await open_cell("one", 5, policy_of("acme", "globex"), keys_file=path)
    assert tokens(await one.ask(authorization=bearers["acme"], x_adaserve_tenant="acme")) == [5]
    other = await one.ask(authorization=bearers["acme"], x_adaserve_tenant="globex")
    assert other.status_code == 403


async def test_a_tenant_that_has_moved_is_forwarded_to_its_new_cell(
    open_cell: Open, key_file: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the policy of the old one: all of the tenant's requests go to an upstream, a gateway like this."""
    path, bearers = key_file
    two = await open_cell("two", 7, policy_of("globex"), keys_file=path)
    monkeypatch.setenv("CELL_TWO_KEY", bearers["globex"].removeprefix("Bearer "))
    upstream = {"upstream": f"{two.url}/v1", "api_key_env": "CELL_TWO_KEY", "timeout_s": 30}
    rollout = {"tenants": ["globex"], "share": 0, "otherwise": upstream}
    one = await open_cell("one", 5, policy_of("acme", "globex", rollout=rollout), keys_file=path)
    assert secret("CELL_TWO_KEY")
    assert tokens(await one.ask(authorization=bearers["acme"])) == [5]
    async with httpx.AsyncClient(base_url=one.url, timeout=30, verify=NO_TLS) as http:
        body = {"prompt": "x", "return_token_ids": True, "stream": True}
        answer = await http.post("/v1/completions", json=body, headers={"authorization": bearers["globex"]})
    assert answer.status_code == 200
    assert '"token_ids":[7]' in answer.text.replace(" ", "")
    assert two.verifier.requests[-1].tenant == "globex"
    assert all(request.tenant == "acme" for request in one.verifier.requests)
