"""The keys a gateway knows while Redis is away, has forgotten, or has something to tell."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis import Redis

from services.gateway import key_ring
from services.gateway.bus import Bus
from services.gateway.errors import ApiError
from services.gateway.key_ring import KeyRing
from shared import api_keys
from shared.api_keys import ApiKey, Scope, StoredSecret
from shared.embedded_redis import EmbeddedRedis
from shared.errors import BusUnavailable, PolicyError
from shared.telemetry import Telemetry, configure
from shared.topics import Keys


def key(key_id: str = "k1", **changes: Any) -> ApiKey:
    values: dict[str, Any] = {
        "id": key_id,
        "tenant": "acme",
        "scopes": (Scope.INFERENCE,),
        "created_ms": 1_000,
        "changed_ms": 1_000,
        "secrets": (StoredSecret(api_keys.digest_of("secret")),),
    }
    return ApiKey(**(values | changes))


async def unheard(what: str, *, who: str, before: Any, after: Any) -> None:
    """A Record that nobody reads."""


@pytest.fixture
def telemetry() -> Any:
    with configure("gateway", "test") as found:
        yield found


@pytest_asyncio.fixture
async def bus(redis_url: str, redis_client: Redis, keys: Keys) -> AsyncIterator[Bus]:
    found = Bus(redis_url, keys, "gateway.test")
    yield found
    await found.stop()


@pytest.fixture
def ring(bus: Bus, telemetry: Telemetry) -> KeyRing:
    return KeyRing(bus, telemetry, unheard)


@pytest.fixture
def other(bus: Bus, telemetry: Telemetry) -> KeyRing:
    return KeyRing(bus, telemetry, unheard)


async def test_what_one_gateway_stores_others_read(ring: KeyRing, other: KeyRing) -> None:
    await ring.put(key(), None)
    await other.refresh()
    assert other.keys == ring.keys == {"k1": key()}
    await other.put(key().revoked(2_000), key())
    await ring.refresh()
    assert ring.keys["k1"].revoked_ms == 2_000


async def test_what_redis_forgets_is_put_back(
    ring: KeyRing, other: KeyRing, bus: Bus, redis_client: Redis
) -> None:
    await ring.put(key(), None)
    await ring.refresh()
    redis_client.flushall()
    await ring.refresh()
    assert ring.keys == {"k1": key()}
    await other.refresh()
    assert other.keys == {"k1": key()}


async def test_a_forgotten_revocation_is_put_back(
    ring: KeyRing, other: KeyRing, bus: Bus, redis_client: Redis
) -> None:
    """As after a failover to a replica that had not got the last writes."""
    await ring.put(key(), None)
    await ring.refresh()
    older = redis_client.hgetall(bus.keys.api_keys)
    await ring.put(key().revoked(2_000), key())
    redis_client.hset(bus.keys.api_keys, mapping=older)  # type: ignore[arg-type]
    redis_client.set(bus.keys.api_keys_version, "older")
    await ring.refresh()
    await other.refresh()
    assert ring.keys["k1"].revoked_ms == other.keys["k1"].revoked_ms == 2_000


async def test_a_key_changed_by_another_meanwhile_is_a_conflict(ring: KeyRing, other: KeyRing) -> None:
    await ring.put(key(), None)
    await other.refresh()
    await ring.put(key().revoked(2_000), key())
    with pytest.raises(ApiError, match="somebody else") as error:
        await other.put(replace(key(), note="mine", changed_ms=3_000), key())
    assert error.value.status == 409


async def test_an_unreadable_record_is_logged_once(
    ring: KeyRing, bus: Bus, redis_client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    redis_client.hset(bus.keys.api_keys, "odd", b"garbage")
    for version in ("1", "2"):
        redis_client.set(bus.keys.api_keys_version, version)
        await ring.refresh()
    assert caplog.text.count("API key odd cannot be read") == 1
    assert not ring.keys


async def test_keys_go_on_without_redis_and_say_how_old_they_are(
    keys: Keys, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(key_ring, "POLL_S", 0.01)
    now = [0.0]
    with EmbeddedRedis() as server:
        bus = Bus(server.url, keys, "gateway.test")
        ring = KeyRing(bus, telemetry, unheard, clock=lambda: now[0])
        await ring.load()
        await ring.put(key(), None)
        ring.start()
        await asyncio.to_thread(server.stop)
        now[0] = 600.0
        while "API keys cannot be read" not in caplog.text:
            await asyncio.sleep(0.01)
        now[0] = 630.0
        while ring.age_s < 600 or b"adaserve_api_keys_age_seconds 630.0" not in telemetry.prometheus():
            await asyncio.sleep(0.01)
        assert ring.keys == {"k1": key()}
        assert caplog.text.count("API keys cannot be read") == 1
        assert "1 known ones go on" in caplog.text
        with pytest.raises(ApiError) as error:
            await ring.put(key("k2"), None)
        assert error.value.status == 503
        assert set(ring.keys) == {"k1"}
        await ring.stop()
        await bus.stop()


def write(path: Path, *names: str, revoked: str = "") -> None:
    digest = api_keys.digest_of("secret").hex()
    entries = "".join(f"  {name}: {{tenant: acme, sha256: {digest}{revoked}}}\n" for name in names)
    temporary = path.with_suffix(".new")
    temporary.write_text(f"keys:\n{entries}")
    os.replace(temporary, path)  # noqa: PTH105 - as a mounted secret changes


async def test_a_file_serves_before_redis_does(
    keys: Keys, telemetry: Telemetry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.yaml"
    write(path, "k1")
    bus = Bus("unix:///no/such.sock", keys, "gateway.test")
    ring = KeyRing(bus, telemetry, unheard, path)
    await ring.load()
    assert set(ring.keys) == {"k1"}
    assert "cannot be read" in caplog.text
    with pytest.raises(BusUnavailable):
        await KeyRing(bus, telemetry, unheard).load()
    await bus.stop()


async def test_a_changed_file_counts_and_a_bad_one_does_not(
    bus: Bus,
    telemetry: Telemetry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(key_ring, "POLL_S", 0.01)
    path = tmp_path / "keys.yaml"
    write(path, "k1")
    records: list[tuple[str, Any]] = []

    async def record(what: str, *, who: str, before: Any, after: Any) -> None:
        records.append((what, after))

    ring = KeyRing(bus, telemetry, record, path)
    await ring.load()
    ring.start()
    while not records:
        await asyncio.sleep(0.01)
    [(what, loaded)] = records
    assert (what, loaded["file"], loaded["num_keys"]) == ("keys.load", str(path), 1)
    assert len(loaded["version"]) == 64
    write(path, "k1", "k2", "k3")
    while set(ring.keys) != {"k1", "k2", "k3"}:
        await asyncio.sleep(0.01)
    write(path, "k2", "k3")
    while set(ring.keys) != {"k2", "k3"}:
        await asyncio.sleep(0.01)
    path.write_text("keys: {BAD: 1}\n")
    while "the keys before go on" not in caplog.text:
        await asyncio.sleep(0.01)
    path.unlink()
    while "cannot be read (No such file" not in caplog.text:
        await asyncio.sleep(0.01)
    assert set(ring.keys) == {"k2", "k3"}
    await ring.stop()
    assert [what for what, _ in records] == [
        "keys.load",
        "keys.reload",
        "keys.reload",
        "keys.refused",
        "keys.refused",
    ]
    assert (records[1][1]["num_added"], records[1][1]["added"], records[1][1]["removed"]) == (2, ["k2", "k3"], [])
    assert (records[2][1]["removed"], records[2][1]["changed"]) == (["k1"], [])
    assert "line 1" in records[3][1]["message"]


async def test_a_key_of_the_file_can_be_revoked_for_all(
    ring: KeyRing, bus: Bus, telemetry: Telemetry, tmp_path: Path
) -> None:
    path = tmp_path / "keys.yaml"
    write(path, "k1")
    with_file = KeyRing(bus, telemetry, unheard, path)
    await with_file.load()
    found = with_file.keys["k1"]
    await with_file.put(found.revoked(5_000), found)
    assert with_file.keys["k1"].revoked_ms == 5_000
    again = KeyRing(bus, telemetry, unheard, path)
    await again.load()
    assert again.keys["k1"].revoked_ms == 5_000
    await ring.refresh()
    assert ring.keys["k1"].revoked_ms == 5_000


async def test_what_could_not_be_put_back_is_tried_again(
    ring: KeyRing, bus: Bus, telemetry: Telemetry, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a key that was revoked would be good again for whoever starts next."""
    await ring.load()
    await ring.put(key(), None)
    stored = redis_client.hgetall(ring._bus.keys.api_keys)
    await ring.put(key().revoked(5_000), ring.keys["k1"])
    await ring.refresh()
    redis_client.hset(ring._bus.keys.api_keys, mapping=stored)  # a replica that had not heard of it
    redis_client.set(ring._bus.keys.api_keys_version, "older")
    call, refusals = bus.call, [1, 1]

    async def sometimes(what: Any) -> Any:
        if refusals and "write" in what.function:
            refusals.pop()
            raise BusUnavailable("read only")
        return await call(what)

    monkeypatch.setattr(bus, "call", sometimes)
    for _ in range(2):
        with pytest.raises(BusUnavailable):
            await ring.refresh()
    await ring.refresh()
    other = KeyRing(bus, telemetry, unheard)
    await other.load()
    assert other.keys["k1"].revoked_ms == 5_000


async def test_a_bad_file_stops_the_start(bus: Bus, telemetry: Telemetry, tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("keys: {BAD: 1}\n")
    with pytest.raises(PolicyError, match="line 1"):
        await KeyRing(bus, telemetry, unheard, path).load()
