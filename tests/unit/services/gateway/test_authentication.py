"""API keys at the door of served gateways, and `adaserve keys` and `adaserve audit` behind it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
from starlette.datastructures import Headers
from typer.testing import CliRunner

from cli.main import app
from services.gateway import origins
from services.gateway.authentication import OPEN_DOOR, OPEN_OPERATOR, STATIC_OPERATOR, Authenticator, Caller
from services.gateway.errors import ApiError
from services.gateway.keys_api import MAX_NOTE
from shared import api_keys
from shared.api_keys import ApiKey, Scope, StoredSecret
from shared.errors import BusUnavailable
from shared.policy import Policy
from shared.telemetry import Telemetry, configure
from tests.unit.services.gateway.conftest import Other, Served
from tests.unit.services.gateway.fake_verifier import Reply

ASK = {"prompt": "hello"}
ADMIN = "a-long-enough-admin-key"


@pytest.fixture
def options() -> dict[str, Any]:
    return {"admin_key": ADMIN}


@pytest.fixture
def policy() -> Policy | None:
    tenants = {name: {"classes": ["chat"], "default": "chat"} for name in ("acme", "globex", "default")}
    return Policy.model_validate({"classes": {"chat": {}}, "tenants": tenants})


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def make(client: httpx.AsyncClient, **wanted: Any) -> dict[str, Any]:
    answer = await client.post("/admin/keys", json={"tenant": "acme", **wanted}, headers=bearer(ADMIN))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def ask(client: httpx.AsyncClient, key: str | None = None, **headers: str) -> httpx.Response:
    own = {} if key is None else bearer(key)
    return await client.post("/v1/completions", json=ASK, headers={**own, **headers})


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest_asyncio.fixture
async def key(served: Served) -> AsyncIterator[str]:
    yield (await make(served.http))["key"]


async def test_the_first_key_closes_the_door(served: Served) -> None:
    assert (await ask(served.http)).status_code == 200
    made = await make(served.http)
    answer = await ask(served.http)
    assert refusal(answer) == (401, "missing_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-request-id"]
    assert (await ask(served.http, made["key"])).status_code == 200
    for path in ("/v1/models", "/v1/streams/x", "/tokenize", "/nowhere", "/admin/mode", "/admin"):
        assert (await served.http.get(path)).status_code == 401
    for path in ("/live", "/ready", "/metrics", "/version"):
        assert (await served.http.get(path)).status_code == 200


async def test_the_openai_client_takes_a_key(served: Served, key: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0) as client:
        assert (await client.completions.create(model="default", prompt="hello")).choices[0].text
    with pytest.raises(openai.AuthenticationError):
        await served.openai.completions.create(model="default", prompt="hello")


async def test_a_key_is_checked_before_the_body(served: Served, key: str) -> None:
    body = b"x" * (2 << 20)
    assert (await served.http.post("/v1/completions", content=body)).status_code == 401
    assert (await served.http.post("/v1/completions", content=body, headers=bearer(key))).status_code == 413


@pytest.mark.parametrize("given", ["sk-nobody-secret", "sk-abc", "none", "sk-ü-ü"])
async def test_a_wrong_key_is_refused(served: Served, key: str, given: str) -> None:
    headers = {b"authorization": b"Bearer " + given.encode()}
    answer = await served.http.post("/v1/completions", json=ASK, headers=headers)  # type: ignore[arg-type]
    assert refusal(answer) == (401, "invalid_api_key")
    assert not served.verifier.requests


async def test_requests_belong_to_the_keys_tenant(served: Served, key: str) -> None:
    assert (await ask(served.http, key)).status_code == 200
    assert served.verifier.requests[-1].tenant == "acme"
    assert (await ask(served.http, key, **{"x-adaserve-tenant": "acme"})).status_code == 200
    answer = await ask(served.http, key, **{"x-adaserve-tenant": "globex"})
    assert refusal(answer) == (403, "tenant_not_allowed")
    assert len(served.verifier.requests) == 2


async def test_nobody_becomes_another_by_saying_so(served: Served) -> None:
    answer = await ask(served.http, **{"x-adaserve-key": "someone", "x-adaserve-tenant": "globex"})
    assert answer.status_code == 200  # no keys yet: the tenant is believed, the key is not
    made = await make(served.http)
    answer = await ask(served.http, **{"x-adaserve-key": made["id"], "x-adaserve-tenant": "acme"})
    assert refusal(answer) == (401, "missing_api_key")


async def test_streams_are_seen_with_keys_of_their_tenant_only(served: Served, key: str) -> None:
    other = (await make(served.http, tenant="globex"))["key"]
    same = (await make(served.http))["key"]
    stream = (await ask(served.http, key)).headers["x-adaserve-stream"]
    codes = [
        (await served.http.get(f"/v1/streams/{stream}", headers=bearer(given))).status_code
        for given in (key, same, other)
    ]
    assert codes == [200, 200, 404]


async def test_scopes_open_what_they_say(served: Served, key: str) -> None:
    operator = (await make(served.http, scopes=["admin"], tenant="operators"))["key"]
    both = (await make(served.http, scopes=["admin", "inference"]))["key"]
    for given, users, admins in ((key, 200, 403), (operator, 403, 200), (both, 200, 200), (ADMIN, 401, 200)):
        assert (await ask(served.http, given)).status_code == users
        assert (await served.http.get("/admin/mode", headers=bearer(given))).status_code == admins
    assert refusal(await ask(served.http, operator)) == (403, "scope_not_allowed")


async def test_an_admin_key_is_named_in_what_it_orders(served: Served) -> None:
    operator = await make(served.http, scopes=["admin"], tenant="operators")
    order = {"mode": "full_verification"}
    answer = await served.http.put("/admin/mode", json=order, headers=bearer(operator["key"]))
    assert answer.json()["orders"]["cell"]["by"] == operator["id"]


async def test_a_revoked_key_ends_on_every_gateway(served: Served, other: Other, key: str) -> None:
    while (await ask(other.http, key)).status_code != 200:
        await asyncio.sleep(0.01)
    key_id = key.split("-")[1]
    started = time.monotonic()
    done = await served.http.delete(f"/admin/keys/{key_id}", headers=bearer(ADMIN))
    assert done.json()["status"] == "revoked"
    assert refusal(await ask(served.http, key)) == (401, "revoked_api_key")
    while (await ask(other.http, key)).status_code == 200:
        await asyncio.sleep(0.01)
    assert time.monotonic() - started < 2.0
    again = await served.http.delete(f"/admin/keys/{key_id}", headers=bearer(ADMIN))
    assert again.json() == done.json()


async def test_the_last_key_that_goes_does_not_open_the_door(served: Served, key: str) -> None:
    await served.http.delete(f"/admin/keys/{key.split('-')[1]}", headers=bearer(ADMIN))
    assert (await ask(served.http)).status_code == 401


async def test_a_rotated_key_has_two_secrets_for_a_while(served: Served, key: str) -> None:
    path = f"/admin/keys/{key.split('-')[1]}/rotate"
    rotated = (await served.http.post(path, json={}, headers=bearer(ADMIN))).json()
    assert rotated["key"] != key
    assert len(rotated["earlier_secrets_until"]) == 1
    for given in (key, rotated["key"]):
        assert (await ask(served.http, given)).status_code == 200
    last = (await served.http.post(path, json={"grace": "0s"}, headers=bearer(ADMIN))).json()
    codes = [(await ask(served.http, given)).status_code for given in (key, rotated["key"], last["key"])]
    assert codes == [401, 401, 200]


async def test_expiry_is_seen_when_the_key_is_used(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await make(served.http, expires_in="1h")
    assert (await ask(served.http, made["key"])).status_code == 200
    monkeypatch.setattr(served.gateway.authenticator, "_clock", lambda: time.time() + 3_601)
    assert refusal(await ask(served.http, made["key"])) == (401, "expired_api_key")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "tenant"),
        ({"tenant": "a b"}, "tenant"),
        ({"tenant": "unknown"}, "tenant"),
        ({"tenant": "acme", "scopes": []}, "scopes"),
        ({"tenant": "acme", "scopes": ["root"]}, "scopes.0"),
        ({"tenant": "acme", "expires": "soon"}, "expires"),
        ({"tenant": "acme", "expires": "2001-01-01"}, "expires"),
        ({"tenant": "acme", "expires_in": "0s"}, "expires_in"),
        ({"tenant": "acme", "expires_in": "1"}, "expires_in"),
        ({"tenant": "acme", "expires": "2099-01-01", "expires_in": "1d"}, "expires_in"),
        ({"tenant": "acme", "note": "x" * (MAX_NOTE + 1)}, "note"),
        ({"tenant": "acme", "secret": "mine"}, "secret"),
    ],
)
async def test_odd_wishes_are_refused_by_field(served: Served, body: Any, param: str) -> None:
    answer = await served.http.post("/admin/keys", json=body, headers=bearer(ADMIN))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not served.gateway.ring.keys


async def test_what_cannot_be_rotated_or_revoked_is_said(served: Served, key: str) -> None:
    headers = bearer(ADMIN)
    assert refusal(await served.http.delete("/admin/keys/nobody", headers=headers)) == (404, "key_not_found")
    path = f"/admin/keys/{key.split('-')[1]}"
    odd = await served.http.post(f"{path}/rotate", json={"grace": "long"}, headers=headers)
    assert (odd.status_code, odd.json()["error"]["param"]) == (400, "grace")
    await served.http.delete(path, headers=headers)
    assert refusal(await served.http.post(f"{path}/rotate", json={}, headers=headers)) == (409, "key_not_rotated")


async def test_two_operators_at_once_do_not_overwrite_each_other(served: Served, other: Other, key: str) -> None:
    while key.split("-")[1] not in other.gateway.ring.keys:
        await asyncio.sleep(0.01)
    path = f"/admin/keys/{key.split('-')[1]}/rotate"
    first = await served.http.post(path, json={}, headers=bearer(ADMIN))
    second = await other.http.post(path, json={}, headers=bearer(ADMIN))
    assert first.status_code == 200
    if second.status_code != 200:  # it had not yet heard of the first
        assert refusal(second) == (409, "key_changed")
    assert (await ask(served.http, first.json()["key"])).status_code == 200


async def test_redis_and_answers_hold_no_secret_but_the_one_that_makes_it(
    served: Served, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = key.split("-", 2)[2]
    await ask(served.http, key)
    await ask(served.http, key + "x")
    listed = await served.http.get("/admin/keys", headers=bearer(ADMIN))
    told = [listed.text, (await served.http.get("/admin/audit", headers=bearer(ADMIN))).text, caplog.text]
    told.append((await served.http.get("/metrics")).text)
    for name in served.redis.scan_iter("*"):  # type: ignore[union-attr]
        if served.redis.type(name) == b"hash":
            told.append(str(served.redis.hgetall(name)))
        elif served.redis.type(name) == b"stream":
            told.append(str(served.redis.xrange(name)))
    assert all(secret not in text for text in told)
    digest = api_keys.digest_of(secret).hex()
    assert all(digest not in text for text in told)
    assert 'adaserve_auth_failures_total{reason="unknown"} 1.0' in told[3]


async def test_every_change_is_in_the_audit_stream(served: Served, other: Other, key: str) -> None:
    key_id = key.split("-")[1]
    await served.http.post(f"/admin/keys/{key_id}/rotate", json={}, headers=bearer(ADMIN))
    await served.http.delete(f"/admin/keys/{key_id}", headers={**bearer(ADMIN), "x-request-id": "r-1"})
    order = {"mode": "speculative", "tenant": "acme", "reason": "why not"}
    await served.http.put("/admin/mode", json=order, headers=bearer(ADMIN))
    await served.gateway.audit.record("policy.reload", before={"rpm": 1}, after={"rpm": 2})
    found = (await other.http.get("/admin/audit", headers=bearer(ADMIN))).json()["events"]
    assert [(event["what"], event["who"]) for event in found] == [
        ("key.create", "admin"),
        ("key.rotate", "admin"),
        ("key.revoke", "admin"),
        ("mode.set", "admin"),
        ("policy.reload", "system"),
    ]
    assert found[2]["request_id"] == "r-1"
    assert (found[2]["before"]["status"], found[2]["after"]["status"]) == ("active", "revoked")
    assert found[3]["before"] == {"tenant:acme": None}
    assert found[3]["after"]["tenant:acme"]["reason"] == "why not"
    assert found[4]["after"] == {"rpm": 2}
    few = await other.http.get("/admin/audit", params={"limit": 2}, headers=bearer(ADMIN))
    assert few.json()["events"] == found[-2:]
    assert (await other.http.get("/admin/audit", params={"limit": 0}, headers=bearer(ADMIN))).status_code == 400


async def test_without_redis_the_audit_is_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)

    async def away(*_: Any) -> Any:
        raise BusUnavailable("gone")

    monkeypatch.setattr(served.gateway._bus, "_execute", away)
    await served.gateway.audit.record("policy.reload", after={"rpm": 2})
    (line,) = [record.getMessage() for record in caplog.records if record.name == "adaserve.audit"]
    assert json.loads(line)["after"] == {"rpm": 2}
    assert "not in the audit stream" in caplog.text
    with pytest.raises(ApiError, match="bus"):
        await served.gateway.audit.latest(1)
    monkeypatch.undo()
    served.redis.xadd(served.keys.audit, {"event": "garbage"})
    assert await served.gateway.audit.latest(5) == []


async def adaserve(served: Served, *words: str, key: str = ADMIN) -> Any:
    arguments = [*words, "--url", served.url]
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, env={"ADASERVE_ADMIN_KEY": key})


async def test_the_command_makes_lists_rotates_and_revokes_keys(served: Served) -> None:
    made = await adaserve(
        served, "keys", "create", "--tenant", "acme", "--expires-in", "90d", "--scope", "inference", "--note", "ci"
    )
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    key_id = key.split("-")[1]
    assert (await ask(served.http, key)).status_code == 200
    listed = await adaserve(served, "keys", "list")
    assert key_id in listed.stdout
    assert "active" in listed.stdout
    assert key.split("-", 2)[2] not in listed.stdout
    (about,) = json.loads((await adaserve(served, "keys", "list", "--json")).stdout)["keys"]
    assert (about["id"], about["note"], about["status"]) == (key_id, "ci", "active")
    assert about["expires"].endswith("Z")
    rotated = json.loads((await adaserve(served, "keys", "rotate", key_id, "--grace", "1h", "--json")).stdout)
    assert (await ask(served.http, rotated["key"])).status_code == 200
    shown = await adaserve(served, "keys", "rotate", key_id)
    assert "earlier secrets until" in shown.stderr
    revoked = await adaserve(served, "keys", "revoke", key_id)
    assert "is revoked since" in revoked.stdout
    assert (await ask(served.http, key)).status_code == 401
    assert json.loads((await adaserve(served, "keys", "revoke", key_id, "--json")).stdout)["status"] == "revoked"
    events = (await adaserve(served, "audit", "--json")).stdout.splitlines()
    assert [json.loads(event)["what"] for event in events] == [
        "key.create",
        "key.rotate",
        "key.rotate",
        "key.revoke",
    ]
    people = await adaserve(served, "audit", "--limit", "1")
    assert people.stdout.count("\n") == 1
    assert "key.revoke" in people.stdout


async def test_adaserve_complete_presents_a_key(served: Served, key: str) -> None:
    words = ["complete", "hello", "--url", served.url]
    refused = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert (refused.exit_code, "An API key is needed" in refused.stderr) == (1, True)
    done = await asyncio.to_thread(CliRunner().invoke, app, words, env={"ADASERVE_API_KEY": key})
    assert done.exit_code == 0, done.output


async def test_the_command_says_in_one_line_what_is_wrong(served: Served) -> None:
    for words, code, said in (
        (("keys", "list"), 1, "This is neither ADASERVE_ADMIN_KEY nor an API key"),
        (("keys", "revoke", "../mode"), 2, "key id"),
    ):
        failed = await adaserve(served, *words, key="wrong")
        assert (failed.exit_code, failed.stderr.count("\n")) == (code, 1)
        assert said in failed.stderr
    failed = await adaserve(served, "keys", "create", "--tenant", "nobody")
    assert "'nobody' is not in the policy; there are acme" in failed.stderr


class Ring:
    """As much of a key ring as the door asks for."""

    def __init__(self, *keys: ApiKey) -> None:
        self.keys = {key.id: key for key in keys}

    @property
    def has_admin(self) -> bool:
        return any(Scope.ADMIN in key.scopes for key in self.keys.values())


@pytest.fixture
def telemetry() -> Any:
    with configure("gateway", "test") as found:
        yield found


def door(telemetry: Telemetry, *keys: ApiKey, **settings: Any) -> Authenticator:
    chosen: dict[str, Any] = {"admin_key": None, "is_local": True, "is_unsafe": False, **settings}
    return Authenticator(Ring(*keys), telemetry, **chosen)  # type: ignore[arg-type]


def said(authorization: str) -> Headers:
    return Headers({"host": "localhost:8000", "authorization": authorization})


KEY = ApiKey(
    id="k",
    tenant="acme",
    scopes=(Scope.INFERENCE,),
    created_ms=0,
    changed_ms=0,
    secrets=(StoredSecret(api_keys.digest_of("s")),),
)


def test_without_keys_only_loopback_is_open(telemetry: Telemetry) -> None:
    local, unsafe = door(telemetry), door(telemetry, is_local=False, is_unsafe=True)
    assert local.caller("/v1/models", said("")) == Caller(OPEN_DOOR)
    assert local.caller("/admin/mode", said("")) == Caller(OPEN_OPERATOR)
    assert unsafe.caller("/v1/models", said("Bearer none")) == Caller(OPEN_DOOR)
    assert unsafe.caller("/v1/models", Headers({"host": "anything"})) == Caller(OPEN_DOOR)
    with pytest.raises(ApiError, match="ADASERVE_ADMIN_KEY"):
        unsafe.caller("/admin/mode", said(""))
    beyond = door(telemetry, is_local=False, admin_key=ADMIN)
    with pytest.raises(ApiError, match="API key is needed"):
        beyond.caller("/v1/models", said(""))
    assert beyond.caller("/admin/keys", said(f"bearer  {ADMIN} ")) == Caller(STATIC_OPERATOR)
    with pytest.raises(ApiError, match="neither ADASERVE_ADMIN_KEY nor an API key"):
        beyond.caller("/admin/keys", said("bearer mistyped"))


@pytest.mark.parametrize(
    ("keys", "settings", "holds"),
    [
        ((), {}, True),
        ((), {"is_local": False}, False),
        ((), {"is_local": False, "is_unsafe": True}, True),
        ((), {"is_local": False, "admin_key": ADMIN}, True),
        ((KEY,), {"is_local": False}, True),
    ],
)
def test_beyond_loopback_it_needs_keys(telemetry: Telemetry, keys: Any, settings: Any, holds: bool) -> None:
    assert door(telemetry, *keys, **settings).can_be_bound is holds


def test_keys_are_asked_for_on_loopback_too_once_there_are_any(telemetry: Telemetry) -> None:
    for settings in ({}, {"is_local": False, "is_unsafe": True}):
        with pytest.raises(ApiError, match="API key is needed"):
            door(telemetry, KEY, **settings).caller("/v1/models", said(""))
        assert door(telemetry, KEY, **settings).caller("/v1/models", said("Bearer sk-k-s")) == Caller("k", "acme")


async def test_without_a_policy_a_keys_tenant_is_its_own(served: Served, key: str) -> None:
    served.gateway.policies.current = None
    stray = (await make(served.http, tenant="anyone"))["key"]
    assert (await ask(served.http, stray)).status_code == 200
    assert served.verifier.requests[-1].tenant == "anyone"


async def test_a_key_whose_tenant_left_the_policy_is_told_so(served: Served, key: str) -> None:
    tenants = {"globex": {"classes": ["chat"], "default": "chat"}}
    served.gateway.policies.current = Policy.model_validate({"classes": {"chat": {}}, "tenants": tenants})
    answer = await ask(served.http, key)
    assert refusal(answer) == (403, "unknown_tenant")
    assert "acme" in answer.json()["error"]["message"]


async def test_a_running_stream_goes_on_when_its_key_is_revoked(served: Served, key: str) -> None:
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    running = asyncio.create_task(ask(served.http, key))
    await served.until(lambda: served.verifier.statuses)
    await served.http.delete(f"/admin/keys/{key.split('-')[1]}", headers=bearer(ADMIN))
    gate.set()
    assert (await running).status_code == 200


REBOUND = {"host": "evil.example:8000"}
FOREIGN = {"origin": "http://evil.example"}
HOST, ORIGIN = (403, "host_not_allowed"), (403, "origin_not_allowed")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/streams/x/inspect", "/admin/mode", "/admin/keys", "/nowhere"])
class TestWhileNobodyIsAsked:
    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"allowed_hosts": "AI.example, other.example"}

    async def test_a_page_that_calls_this_machine_its_own_is_refused(self, served: Served, path: str) -> None:
        answer = await served.http.get(path, headers=REBOUND)
        assert refusal(answer) == HOST
        assert "ADASERVE_ALLOWED_HOSTS" in answer.json()["error"]["message"]
        assert answer.headers["x-request-id"]

    async def test_a_request_from_a_foreign_page_is_refused(self, served: Served, path: str) -> None:
        assert refusal(await served.http.post(path, headers=FOREIGN)) == ORIGIN
        assert refusal(await served.http.post(path, headers={"sec-fetch-site": "cross-site"})) == ORIGIN

    async def test_a_key_opens_it_to_any_name(self, served: Served, path: str) -> None:
        both = bearer((await make(served.http, scopes=["inference", "admin"]))["key"])
        assert (await served.http.get(path, headers={**both, **REBOUND})).status_code in (200, 404)
        assert (await served.http.get(path, headers={**both, **FOREIGN})).status_code in (200, 404)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost"},
        {"host": "LocalHost:1", "origin": "http://localhost:1", "sec-fetch-site": "same-origin"},
        {"host": "127.0.0.1:8000"},
        {"host": "[::1]:8000", "origin": "http://[::1]:8000"},
        {"host": "ai.example"},
        {"host": "127.0.0.1:8000", "origin": "https://ai.example"},
    ],
)
def test_own_and_allowed_names_are_let_in(headers: dict[str, str]) -> None:
    origins.check(Headers(headers), {"ai.example"})


@pytest.mark.parametrize("host", ["", "ai.example.evil", "localhost.evil", "192.0.2.1", "[::2]", "[", "x:y:z"])
def test_no_other_name_is_let_in(host: str) -> None:
    with pytest.raises(ApiError, match="Host"):
        origins.check(Headers({"host": host}), {"ai.example"})


@pytest.mark.parametrize("origin", ["null", "", "http://localhost:3000", "https://ai.example.evil", "http://["])
def test_no_page_of_another_server_or_port_is_let_in(origin: str) -> None:
    with pytest.raises(ApiError, match="Origin"):
        origins.check(Headers({"host": "localhost:8000", "origin": origin}), {"ai.example"})


async def test_what_is_always_open_is_asked_by_any_name(served: Served) -> None:
    for path in ("/live", "/ready", "/metrics", "/version", "/"):
        assert (await served.http.get(path, headers=REBOUND | FOREIGN)).status_code == 200


async def test_no_body_is_taken_for_json_that_is_not_said_to_be(served: Served) -> None:
    """What a foreign page can send without asking first (Fetch standard, simple requests)."""
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        for path in ("/v1/completions", "/admin/keys"):
            headers = {"content-type": content_type}
            answer = await served.http.post(path, content=b"{}", headers=headers | bearer(ADMIN))
            assert refusal(answer) == (415, "unsupported_media_type")
