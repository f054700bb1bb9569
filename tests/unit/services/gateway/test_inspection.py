"""Where tokens come from, and what the iterations of an inspected request were: told to its tenant only."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from typing import Any

import httpx
import numpy as np
import pytest

from services.gateway import inspection
from services.gateway.app import VERSION
from services.gateway.description.document import document
from services.gateway.quotas import KEPT_EACH
from shared.inspect_store import PAGE, note
from shared.inspection import InspectedStep, InspectedTree
from shared.topics import INSPECT_TTL_S
from tests.conformance.described import Described
from tests.unit.services.gateway.conftest import Served
from tests.unit.services.gateway.fake_verifier import Reply

DESCRIBED = Described(document(VERSION))
STEPS = [[5], [6, 7, 8], [9, 10]]
DRAFTED = [0, 2, 2]
FLAGS = [False, True, True, False, True, True]
COMPLETION: dict[str, Any] = {"prompt": "hello", "adaserve": {"inspect": True}}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "adaserve": {"inspect": True}}


def choices_of(answer: httpx.Response) -> list[dict[str, Any]]:
    chunks = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: {")]
    return [choice for chunk in chunks for choice in chunk["choices"]]


def flags_of(choices: list[dict[str, Any]]) -> list[bool | None]:
    for choice in choices:
        assert len(choice.get("adaserve", {}).get("drafted", [])) == len(choice.get("token_ids", []))
    return [flag for choice in choices for flag in choice.get("adaserve", {}).get("drafted", [])]


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)], ids=["text", "chat"]
)
@pytest.mark.parametrize("stream", [True, False])
async def test_every_token_says_where_it_comes_from(
    served: Served, path: str, body: dict[str, Any], stream: bool
) -> None:
    served.answers(Reply(STEPS, drafted=DRAFTED))
    answer = await served.http.post(path, json={**body, "stream": stream})
    DESCRIBED.check_answer("post", path, answer)
    choices = choices_of(answer) if stream else answer.json()["choices"]
    assert flags_of(choices) == FLAGS
    assert [token for choice in choices for token in choice.get("token_ids", [])] == [5, 6, 7, 8, 9, 10]
    assert served.verifier.requests[0].inspect


async def test_nobody_is_told_who_has_not_asked(served: Served) -> None:
    served.answers(Reply(STEPS, drafted=DRAFTED))
    answer = await served.http.post("/v1/completions", json={"prompt": "hello", "return_token_ids": True})
    assert "adaserve" not in answer.json()["choices"][0]
    stream = f"/v1/streams/{answer.headers['x-adaserve-stream']}/inspect"
    assert (await served.http.get(stream)).status_code == 404
    assert not served.redis.keys(served.keys.inspect("*"))
    assert not served.verifier.requests[0].inspect


async def test_of_what_the_journal_tells_nobody_knows_any_more(served: Served) -> None:
    served.answers(Reply(STEPS, drafted=DRAFTED, unreadable=frozenset({1})))
    answer = await served.http.post("/v1/completions", json={**COMPLETION, "stream": True})
    assert flags_of(choices_of(answer)) in ([False, None, None, None, True, True], [False] + [None] * 5)
    again = await served.http.get(f"/v1/streams/{answer.headers['x-adaserve-stream']}")
    assert flags_of(choices_of(again)) == [None] * len(FLAGS)


TREE = InspectedTree(
    step=1,
    position=5,
    need=1.25,
    budget=7,
    rows=2,
    depth=3,
    width=2,
    draft_ms=2.0,
    select_ms=0.5,
    predicted_ms=9.0,
    tokens=np.array([6, 9, 7], np.int32),
    parents=np.array([-1, -1, 0], np.int16),
    probability=np.array([0.75, 0.125, 0.5], np.float32),
    chosen=np.array([0, 2], np.int16),
    phase=np.array([0, 1], np.uint8),
)
STEP = InspectedStep(
    step=1,
    position=5,
    mode="speculative",
    tpot_target_ms=float("inf"),
    tpot_ms=12.0,
    verify_ms=6.0,
    tokens=np.array([6, 8], np.int32),
    path=np.array([0], np.int16),
    logprobs=np.array([-0.5], np.float32),
)


def tell(served: Served, request: str, *messages: InspectedTree | InspectedStep) -> None:
    for message in messages:
        for command in note(served.keys, request, message):
            served.redis.execute_command(*command)


async def inspected(served: Served, **headers: str) -> str:
    answer = await served.http.post("/v1/completions", json=COMPLETION, headers=headers)
    return answer.headers["x-adaserve-stream"]


async def test_both_halves_of_an_iteration_are_told_as_one(served: Served) -> None:
    request = await inspected(served)
    path = "/v1/streams/{stream}/inspect"
    empty = await served.http.get(path.format(stream=request))
    DESCRIBED.check_answer("get", path, empty)
    assert (empty.json()["cursor"], empty.json()["iterations"]) == ("0-0", [])
    tell(served, request, TREE, STEP)
    answer = await served.http.get(path.format(stream=f"cmpl-{request}"), params={"after": "0-0"})
    DESCRIBED.check_answer("get", path, answer)
    [iteration] = answer.json()["iterations"]
    assert [(node["phase"], node["accepted"]) for node in iteration["nodes"]] == [
        ("slo", True),
        (None, False),
        ("throughput", False),
    ]
    assert [node["text"] for node in iteration["nodes"]] == [served.tokenizer.decode([t]) for t in (6, 9, 7)]
    assert iteration["own"] == {"token": 8, "text": served.tokenizer.decode([8])}
    assert iteration["tpot_target_ms"] is None
    assert served.redis.ttl(served.keys.inspect(request)) == INSPECT_TTL_S
    tell(served, request, TREE)  # its step is still to come
    later = {"after": answer.json()["cursor"]}
    assert (await served.http.get(path.format(stream=request), params=later)).json()["iterations"] == []
    served.redis.xadd(served.keys.inspect(request), {"step": b"rubbish"})
    served.redis.xadd(served.keys.inspect(request), {"unheard": b""})
    tell(served, request, STEP)
    [again] = (await served.http.get(path.format(stream=request), params=later)).json()["iterations"]
    assert again == iteration
    wrong = await served.http.get(path.format(stream=request), params={"after": "yesterday"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")
    DESCRIBED.check_answer("get", path, wrong)


async def pages(served: Served, request: str) -> list[dict[str, Any]]:
    """All that there is, as a client reads it."""
    found = [(await served.http.get(f"/v1/streams/{request}/inspect")).json()]
    while found[-1]["more"]:
        answer = await served.http.get(f"/v1/streams/{request}/inspect", params={"after": found[-1]["cursor"]})
        DESCRIBED.check_answer("get", "/v1/streams/{stream}/inspect", answer)
        found.append(answer.json())
    return found


async def test_many_iterations_are_told_a_page_at_a_time(served: Served) -> None:
    request = await inspected(served)
    for position in range(PAGE + 3):
        halves = (dataclasses.replace(half, position=position) for half in (TREE, STEP))
        tell(served, request, *halves)
    found = await pages(served, request)
    assert [len(page["iterations"]) for page in found] == [PAGE // 2, PAGE // 2, 3]
    told = [iteration for page in found for iteration in page["iterations"]]
    assert [one["position"] for one in told] == list(range(PAGE + 3))
    assert all(one["need"] == TREE.need for one in told)  # no page parts a tree from its step


async def test_a_page_without_a_step_leads_on(served: Served) -> None:
    request = await inspected(served)
    tell(served, request, *[TREE] * PAGE, STEP)
    assert [len(page["iterations"]) for page in await pages(served, request)] == [0, 1]


async def test_a_look_reads_nothing_before_its_turn(served: Served) -> None:
    request = await inspected(served)
    async with served.gateway.inspection._turns.turn("somebody"):
        looks = [
            asyncio.create_task(served.http.get(f"/v1/streams/{request}/inspect", params={"after": after}))
            for after in ("0-0", "0-1")
        ]
        await served.until(lambda: len(served.gateway.inspection._turns._waiting.get("default", ())) == 2)
        tell(served, request, TREE, STEP)
    assert [len((await look).json()["iterations"]) for look in looks] == [1, 1]


async def test_after_a_look_there_is_a_pause_in_proportion(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = await inspected(served)
    tell(served, request, TREE, STEP)
    monkeypatch.setattr(served.gateway.inspection, "_told", lambda *_: time.sleep(0.02) or "{}")
    monkeypatch.setattr(inspection, "REST", 10)
    began = time.monotonic()
    assert (await served.http.get(f"/v1/streams/{request}/inspect")).status_code == 200
    assert time.monotonic() - began > 0.22


async def key(served: Served, tenant: str, *scopes: str) -> dict[str, str]:
    made = await served.http.post("/admin/keys", json={"tenant": tenant, "scopes": scopes})
    headers = {"authorization": f"Bearer {made.json()['key']}"}
    if not served.http.headers.get("authorization"):
        served.http.headers.update(headers)  # from now on somebody is asked
    return headers


async def test_another_tenant_learns_nothing_and_an_operator_leaves_a_trace(served: Served) -> None:
    operator = await key(served, "ops", "admin")
    mine, others = await key(served, "acme", "inference"), await key(served, "other", "inference")
    request = await inspected(served, **mine)
    tell(served, request, TREE, STEP)
    path = f"/v1/streams/{request}/inspect"
    assert len((await served.http.get(path, headers=mine)).json()["iterations"]) == 1
    refused = await served.http.get(path, headers=others)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "stream_not_found")
    assert (await served.http.get(path, headers=operator)).status_code == 403
    admin = f"/admin{path.removeprefix('/v1')}"
    found = await served.http.get(admin, headers=operator, params={"after": "0-1"})  # however it begins
    DESCRIBED.check_answer("get", "/admin/streams/{stream}/inspect", found)
    assert len(found.json()["iterations"]) == 1
    await served.http.get(admin, headers=operator, params={"after": found.json()["cursor"]})
    trail = (await served.http.get("/admin/audit", headers=operator)).json()["events"]
    assert [event["after"] for event in trail if event["what"] == "stream.inspect"] == [{"stream": request}]


class TestWithOnePlace:
    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"max_inspected": 1}

    async def test_a_second_one_at_a_time_is_refused(self, served: Served) -> None:
        gate = asyncio.Event()
        served.answers(Reply(STEPS, gate=gate))
        first = asyncio.create_task(served.http.post("/v1/completions", json=COMPLETION))
        await served.until(lambda: served.verifier.requests)
        refused = await served.http.post("/v1/completions", json=COMPLETION)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "inspect_limit_exceeded")
        DESCRIBED.check_answer("post", "/v1/completions", refused)
        assert (await served.http.post("/v1/completions", json={**COMPLETION, "n": 2})).status_code == 429
        served.answers(Reply(STEPS))
        assert (await served.http.post("/v1/completions", json={"prompt": "hello"})).status_code == 200
        gate.set()
        assert (await first).status_code == 200
        await served.until(lambda: not served.redis.exists(served.keys.running(":inspected")))
        assert (await served.http.post("/v1/completions", json=COMPLETION)).status_code == 200

    async def test_iterations_of_so_many_requests_are_kept_and_no_more(self, served: Served) -> None:
        requests = []
        for _ in range(KEPT_EACH + 2):
            await served.until(lambda: not served.redis.exists(served.keys.running(":inspected")))
            requests.append(await inspected(served))
        kept = served.redis.keys(served.keys.inspect("*"))
        assert sorted(kept) == sorted(served.keys.inspect(name).encode() for name in requests[2:])
        tell(served, requests[0], TREE, STEP)  # it runs on, and nobody has room for what it brings
        assert not served.redis.exists(served.keys.inspect(requests[0]))
        assert (await served.http.get(f"/v1/streams/{requests[0]}/inspect")).json()["iterations"] == []
