"""The gateway as a process with API keys: beyond loopback, and started while Redis is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from shared.topics import Keys
from tests.key_files import made_for_file
from tests.unit.services.gateway.fake_verifier import FakeVerifier, Reply
from tests.unit.services.gateway.test_main import Start, free_port, start

__all__ = ["start"]  # the fixture

ASK = {"prompt": "hello"}


@pytest.fixture
def keys_file(tmp_path: Path) -> tuple[Path, str, str]:
    """A file with a key for requests and one for operators, and both."""
    user_entry, user = made_for_file("--tenant", "acme", "--expires-in", "1d", "--note", "it's: mine")
    admin_entry, admin = made_for_file("--scope", "admin", "--tenant", "operators", "--expires", "2099-01-01")
    path = tmp_path / "keys.yaml"
    path.write_text(f"keys:\n{user_entry}{admin_entry}")
    return path, user, admin


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def until_up(client: httpx.AsyncClient) -> None:
    while True:
        try:
            await client.get("/live")
            return
        except httpx.TransportError:
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def verifier(redis_url: str, keys: Keys) -> AsyncIterator[FakeVerifier]:
    found = FakeVerifier(redis_url, keys, lambda _: Reply([[5], [6]]))
    await found.start()
    yield found
    await found.stop()


async def test_with_keys_it_listens_beyond_loopback(
    start: Start, verifier: FakeVerifier, keys_file: tuple[Path, str, str]
) -> None:
    path, user, admin = keys_file
    port = free_port()
    await start(ADASERVE_HTTP_HOST="0.0.0.0", ADASERVE_HTTP_PORT=str(port), ADASERVE_KEYS_FILE=str(path))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        await until_up(client)
        while (await client.get("/ready")).status_code != 200:
            await asyncio.sleep(0.05)
        asked = [
            await client.post("/v1/completions", json=ASK, headers=bearer(key)) for key in ("sk-x-y", admin, user)
        ]
        assert [answer.status_code for answer in asked] == [401, 403, 200]
        assert (await client.post("/v1/completions", json=ASK)).status_code == 401
        modes = [await client.get("/admin/mode", headers=bearer(key)) for key in (user, admin)]
        assert [answer.status_code for answer in modes] == [403, 200]
        body = {"tenant": "acme", "scopes": ["inference"]}
        made = (await client.post("/admin/keys", json=body, headers=bearer(admin))).json()
        assert (await client.post("/v1/completions", json=ASK, headers=bearer(made["key"]))).status_code == 200
        await client.delete(f"/admin/keys/{user.split('-')[1]}", headers=bearer(admin))
        refused = await client.post("/v1/completions", json=ASK, headers=bearer(user))
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "revoked_api_key")


async def test_with_a_file_of_keys_it_starts_without_redis(
    start: Start, keys: Keys, keys_file: tuple[Path, str, str]
) -> None:
    path, user, _ = keys_file
    port = free_port()
    process = await start(
        REDIS_URL="unix:///no/such.sock", ADASERVE_HTTP_PORT=str(port), ADASERVE_KEYS_FILE=str(path)
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        await until_up(client)
        answers = [await client.get("/v1/models", headers=bearer(key)) for key in ("sk-x-y", user)]
        assert [answer.status_code for answer in answers] == [401, 200]
        refused = await client.post("/v1/completions", json=ASK, headers=bearer(user))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert (await client.get("/ready")).status_code == 503
        assert (await client.get("/live")).status_code == 200
    assert process.returncode is None


async def test_the_admin_key_alone_lets_it_listen_but_nobody_ask(start: Start, verifier: FakeVerifier) -> None:
    port = free_port()
    admin = "a-long-enough-admin-key"
    await start(ADASERVE_HTTP_HOST="0.0.0.0", ADASERVE_HTTP_PORT=str(port), ADASERVE_ADMIN_KEY=admin)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        await until_up(client)
        assert (await client.post("/v1/completions", json=ASK)).status_code == 401
        made = (await client.post("/admin/keys", json={"tenant": "acme"}, headers=bearer(admin))).json()
        while (await client.get("/ready")).status_code != 200:
            await asyncio.sleep(0.05)
        assert (await client.post("/v1/completions", json=ASK, headers=bearer(made["key"]))).status_code == 200
