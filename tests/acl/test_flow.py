"""The four services, each as its own user of a Redis that speaks TLS: all they do, and nothing is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from typer.testing import CliRunner

from bench.local import DRAFT, TARGET, LocalStack
from cli.main import app
from shared.topics import Keys
from tests.acl.authority import OPENSSL
from tests.acl.guarded import CELL, GuardedRedis, cell_of, guarded_redis
from tests.key_files import made_for_file

ADMIN = "an-admin-key-of-this-test-000000"
KEYS = Keys(CELL)
POLICY = """
classes: {chat: {tpot_ms: 500, objective: 0.5}}
tenants: {acme: {classes: [chat], default: chat, rpm: 1000, tpm: 1000000, max_concurrent: 8}}
rollout: {tenants: [acme], ramp: [0.5, 1.0], otherwise: plain}
"""
LONG = {"prompt": "import os\n", "max_tokens": 150, "ignore_eos": True, "stream": True, "temperature": 0.0}
WAITS = ("verifier", "function|load")  # it tries, and then waits for a gateway to do it
REFUSED = ("NOPERM", "no permission", "NoPermission", "WRONGPASS")
pytestmark = [
    pytest.mark.skipif(OPENSSL is None, reason="no openssl on PATH, which makes the certificates"),
    pytest.mark.timeout(170),
]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory, redis_binary: str | None) -> Iterator[GuardedRedis]:
    with guarded_redis(tmp_path_factory.mktemp("cell"), redis_binary) as server:
        yield server


@pytest.fixture(scope="module")
def cell(redis: GuardedRedis) -> Iterator[LocalStack]:
    entry, redis_key = made_for_file("--tenant", "acme")
    files = {"policy.yaml": POLICY, "keys.yaml": f"keys:\n{entry}", "admin-key": ADMIN, "client-key": redis_key}
    for name, text in files.items():
        (redis.folder / name).write_text(text)
    model = {"TARGET": TARGET, "DRAIN_S": "2", "RING_DEADLINE_CAP_MS": "2000"}
    own = {
        "TARGET": TARGET,
        "POLICY_FILE": str(redis.folder / "policy.yaml"),
        "KEYS_FILE": str(redis.folder / "keys.yaml"),
        "ADMIN_KEY_FILE": str(redis.folder / "admin-key"),
        "REFUSE_UNREACHABLE": "false",
    }
    names = {"selector": {"POLICY": "paper"}, "drafter": {"DRAFT": DRAFT}, "gateway": own}
    stack = cell_of(redis, names | {"verifier": model, "verifier-2": model})
    try:
        for name in ("gateway", "verifier", "drafter", "selector"):
            stack.start(name)
        stack.wait_ready("gateway", "verifier", "drafter", "selector")
        yield stack
    finally:
        stop(stack)


def stop(cell: LocalStack) -> None:
    """All of them; the stack's own knows one of each."""
    second = cell.processes.get("verifier-2")
    if second is not None:
        second.terminate()
        second.wait()
    cell.stop()


@pytest.fixture
def client(cell: LocalStack, redis: GuardedRedis) -> Iterator[httpx.Client]:
    key = (redis.folder / "client-key").read_text()
    with httpx.Client(base_url=cell.url, headers={"authorization": f"Bearer {key}"}, timeout=60) as found:
        yield found


@pytest.fixture
def admin(cell: LocalStack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=cell.url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=60) as found:
        yield found


def until(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def told(response: httpx.Response) -> Any:
    assert response.status_code in (200, 201), response.text
    return response.json()


class Reading:
    """A stream as its client reads it."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.num_tokens = 0
        self.is_done = False
        self.last = ""

    def read(self, until_tokens: float = float("inf")) -> None:
        for line in self._lines:
            if line.startswith("id: "):
                self.last = line[4:]
            self.is_done = self.is_done or line == "data: [DONE]"
            if line.startswith("data: {"):
                event = json.loads(line[6:])
                assert "error" not in event, event
                self.num_tokens += len(event["choices"][0].get("token_ids", []))
                if self.num_tokens >= until_tokens:
                    return


def test_streams_are_served_speculated_and_inspected(client: httpx.Client) -> None:
    def has_drafted() -> bool:
        """Whether one of a stream's iterations had trees, which a busy machine may bring too late."""
        with client.stream("POST", "/v1/completions", json=body) as response:
            reading = Reading(response.iter_lines())
            reading.read()
            stream = response.headers["x-adaserve-stream"]
        assert reading.is_done
        assert reading.num_tokens == 150
        iterations = told(client.get(f"/v1/streams/{stream}/inspect"))["iterations"]
        return any(iteration["nodes"] for iteration in iterations)

    body = {**LONG, "return_token_ids": True, "adaserve": {"inspect": True}}
    until(has_drafted)


def test_a_client_leaves_and_another_comes_back(client: httpx.Client) -> None:
    with client.stream("POST", "/v1/completions", json=LONG) as response:
        next(response.iter_lines())
    body = {**LONG, "return_token_ids": True, "adaserve": {"resumable": True}}
    with client.stream("POST", "/v1/completions", json=body) as response:
        reading = Reading(response.iter_lines())
        reading.read(until_tokens=20)
        name = response.headers["x-adaserve-stream"]
    with client.stream("GET", f"/v1/streams/{name}", headers={"last-event-id": reading.last}) as response:
        again = Reading(response.iter_lines())
        again.read()
    assert again.is_done
    with client.stream("POST", "/v1/completions", json=body) as response:
        assert client.delete(f"/v1/streams/{response.headers['x-adaserve-stream']}").is_success


def test_operators_look_and_change_things(
    client: httpx.Client, admin: httpx.Client, redis: GuardedRedis, cell: LocalStack
) -> None:
    made = told(admin.post("/admin/keys", json={"tenant": "acme"}))
    headers = {"authorization": f"Bearer {made['key']}"}
    until(lambda: client.get("/v1/models", headers=headers).is_success)
    assert admin.delete(f"/admin/keys/{made['id']}").is_success
    told(admin.put("/admin/mode", json={"mode": "speculative", "reason": "a test"}))
    told(admin.put("/admin/mode", json={"mode": "auto"}))
    told(admin.put("/admin/rollout", json={"step": 1}))
    live = until(lambda: (found := told(admin.get("/admin/live")))["verifiers"] and found)
    assert live
    assert told(admin.get("/admin/usage"))
    (redis.folder / "policy.yaml").write_text(POLICY.replace("500", "400"))
    until(lambda: "policy.reload" in cell.log("gateway"))
    events = {event["what"] for event in told(admin.get("/admin/audit"))["events"]}
    assert {"key.create", "key.revoke", "mode.set", "policy.reload"} <= events


def test_redis_forgets_everything_under_a_stream(client: httpx.Client, redis: GuardedRedis) -> None:
    with client.stream("POST", "/v1/completions", json={**LONG, "return_token_ids": True}) as response:
        reading = Reading(response.iter_lines())
        reading.read(until_tokens=5)
        redis.judge.flushall()
        redis.judge.function_flush()
        reading.read()
    assert reading.is_done
    assert reading.num_tokens == 150
    assert redis.judge.function_list()  # by a gateway


def test_a_verifier_dies_and_another_takes_over(
    client: httpx.Client, redis: GuardedRedis, cell: LocalStack
) -> None:
    cell.start("verifier-2", "services.verifier")
    cell.wait_ready("verifier-2")
    body = {**LONG, "max_tokens": 400, "return_token_ids": True}
    with client.stream("POST", "/v1/completions", json=body) as response:
        reading = Reading(response.iter_lines())
        reading.read(until_tokens=5)
        (owner,) = (name for name in redis.judge.smembers(KEYS.members("verifier")) if owns(redis, name))
        cell.kill(owner.partition(b".")[0].decode())
        reading.read()
    assert reading.is_done
    assert reading.num_tokens == 400


def owns(redis: GuardedRedis, verifier: bytes) -> bool:
    return bool(redis.judge.exists(KEYS.owned(verifier.decode())))


def test_the_doctor_comes_as_the_operator(
    redis: GuardedRedis, cell: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = (redis.folder / "operator-password").read_text().strip()
    ca_file = quote(str(redis.folder / "ca.crt"))
    url = f"{redis.url.replace('//', f'//operator:{quote(password, safe=str())}@')}?ssl_ca_certs={ca_file}"
    words = ["doctor", "--url", cell.url, "--redis", url, "--cell", CELL, "--admin-key", ADMIN, "--json"]
    done = CliRunner().invoke(app, words)
    found = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert found["redis"]["severity"] == "fine", done.stdout
    assert password not in done.output


def test_nobody_was_refused_anything(redis: GuardedRedis, cell: LocalStack) -> None:
    stop(cell)  # leaving is something they do, too
    logs = {path.stem: path.read_text(errors="replace") for path in Path(redis.folder).glob("*.log")}
    assert {"gateway", "verifier", "verifier-2", "drafter", "selector"} <= logs.keys()
    lines = [f"{name}: {line}" for name, log in logs.items() for line in log.splitlines()]
    assert not [line for line in lines if any(word in line for word in REFUSED)]
    refused = [entry for entry in redis.refusals() if (entry["username"], entry["object"]) != WAITS]
    assert not refused
