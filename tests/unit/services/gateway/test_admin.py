"""/admin/mode and `adaserve mode` on a served gateway."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from shared.modes import CELL, MAX_REASON, Mode, Order
from shared.policy import Policy
from tests.unit.services.gateway.conftest import Served

KEY = "a-long-enough-admin-key"
HEADERS = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def options() -> dict[str, Any]:
    return {"admin_key": KEY}


def stored(served: Served) -> dict[bytes, Order]:
    packed: Any = served.redis.hgetall(served.keys.modes)
    return {name: Order.unpack(order) for name, order in packed.items()}


async def put(served: Served, body: Any) -> httpx.Response:
    return await served.http.put("/admin/mode", json=body, headers=HEADERS)


async def test_an_order_is_stored_with_reason_and_wakes_the_verifiers(served: Served) -> None:
    answer = await put(served, {"mode": "full_verification", "reason": "draft is being retrained"})
    assert answer.status_code == 200
    order = stored(served)[CELL.encode()]
    assert (order.mode, order.reason, order.by) == (Mode.FULL_VERIFICATION, "draft is being retrained", "admin")
    assert answer.json()["orders"]["cell"] == order.json()
    (entry,) = served.redis.xrevrange(served.keys.control, count=1)  # type: ignore[misc]
    assert b"mode" in entry[1][b"body"]


async def test_auto_withdraws_an_order(served: Served) -> None:
    await put(served, {"mode": "speculative", "tenant": "acme"})
    await put(served, {"mode": "full_verification", "class": "custom"})
    assert set(stored(served)) == {b"tenant:acme", b"class:custom"}
    await put(served, {"mode": "auto", "tenant": "acme"})
    shown = (await served.http.get("/admin/mode", headers=HEADERS)).json()
    assert set(shown["orders"]) == {"class:custom"}
    assert set(shown["verifiers"])  # the fake verifier, which tells no mode
    assert next(iter(shown["verifiers"].values())).keys() == {"mode", "reason", "since_ms"}


async def test_without_a_policy_only_the_classes_that_need_none_can_be_named_and_any_tenant(
    served: Served,
) -> None:
    answer = await put(served, {"mode": "full_verification", "class": "typo"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "class")
    assert "'typo' is no class, for there is no policy; there are best_effort, custom" in answer.text
    for scope in ({"class": "best_effort"}, {"class": "custom"}, {"tenant": "anybody"}):
        assert (await put(served, {"mode": "full_verification", **scope})).status_code == 200


async def test_an_order_that_would_protect_nobody_is_refused(served: Served) -> None:
    content = {"classes": {"chat": {}}, "tenants": {"acme": {"classes": ["chat"], "default": "chat"}}}
    served.gateway.policies.current = Policy.model_validate(content)
    for field, known in (("tenant", "acme"), ("class", "chat")):
        answer = await put(served, {"mode": "full_verification", field: "typo"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
        assert f"'typo' is not in the policy; there are {known}" in answer.json()["error"]["message"]
        assert (await put(served, {"mode": "full_verification", field: known})).status_code == 200
        assert (await put(served, {"mode": "auto", field: "typo"})).status_code == 200
    assert (await put(served, {"mode": "full_verification", "class": "best_effort"})).status_code == 200
    assert set(stored(served)) == {b"tenant:acme", b"class:chat", b"class:best_effort"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"mode": "turbo"}, "mode"),
        ({}, "mode"),
        ({"mode": "auto", "tenant": "a", "class": "b"}, "tenant"),
        ({"mode": "auto", "tenant": ""}, "tenant"),
        ({"mode": "auto", "class": "a\nb"}, "class"),
        ({"mode": "auto", "reason": "x" * (MAX_REASON + 1)}, "reason"),
        ({"mode": "auto", "scope": "cell"}, "scope"),
    ],
)
async def test_odd_orders_are_refused_by_field(served: Served, body: Any, param: str) -> None:
    answer = await put(served, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert not stored(served)


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer ü"]
)
async def test_only_the_admin_key_opens(served: Served, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given.encode()}
    codes = {"missing_api_key", "invalid_api_key"}
    for answer in (
        await served.http.get("/admin/mode", headers=headers),
        await served.http.put("/admin/mode", json={"mode": "full_verification"}, headers=headers),
    ):
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] in codes
        assert answer.headers["www-authenticate"] == "Bearer"
    assert not stored(served)


async def adaserve_mode(served: Served, *arguments: str, key: str = KEY) -> Any:
    words = ["mode", *arguments, "--url", served.url]
    return await asyncio.to_thread(CliRunner().invoke, app, words, env={"ADASERVE_ADMIN_KEY": key})


async def test_the_command_sets_and_shows_modes(served: Served) -> None:
    done = await adaserve_mode(served, "full_verification", "--class", "custom", "--reason", "legal texts")
    assert done.exit_code == 0
    assert "class:custom" in done.stdout
    shown = await adaserve_mode(served, "--json")
    assert json.loads(shown.stdout)["orders"]["class:custom"]["reason"] == "legal texts"
    people = await adaserve_mode(served)
    assert "full_verification" in people.stdout
    assert "verifier" in people.stdout


async def test_the_command_says_in_one_line_what_is_wrong(served: Served) -> None:
    refused = await adaserve_mode(served, key="wrong")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "adaserve: This is neither ADASERVE_ADMIN_KEY nor an API key, sk-<key id>-<secret>, of scope admin\n",
    )
    gone = CliRunner().invoke(app, ["mode", "--url", "http://127.0.0.1:9"])
    assert (gone.exit_code, gone.stderr.startswith("adaserve: no gateway at")) == (1, True)
