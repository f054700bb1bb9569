"""Arms of a rollout on a served gateway: here with and without speculation, and on an existing server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from shared.policy import Policy
from shared.rollout import Arm, arm_of
from tests.unit.services.gateway.conftest import Served
from tests.unit.services.gateway.fake_verifier import Reply
from tests.unit.services.gateway.old_server import OldServer, answers, hangs, old_server, streams

KEY = "the-operators-own-secret"
ADMIN_KEY = "a-long-enough-admin-key"
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
ANSWER = b'{"id": "old-1",  "choices": [{"text": "h\\u00e9"}], "usage": {"completion_tokens": 1}}'
CONTENT: dict[str, Any] = {
    "classes": {"chat": {"tpot_ms": 5000, "ttft_ms": 5000, "objective": 0.9}},
    "tenants": {
        "default": {"classes": ["chat"], "default": "chat"},
        "globex": {"classes": ["chat"], "default": "chat"},
    },
}


def user(arm: Arm, share: float = 0.5) -> str:
    return next(f"u{n}" for n in range(99) if arm_of("default", f"u{n}", share) is arm)


TREATED, OTHER = user(Arm.TREATMENT), user(Arm.CONTROL)


def chunk(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "text": text}]}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


@pytest_asyncio.fixture
async def old() -> AsyncIterator[OldServer]:
    async with old_server(answers(200, ANSWER)) as made:
        yield made


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("OLD_SERVER_KEY", KEY)
    return {"admin_key": ADMIN_KEY}


@pytest.fixture
def otherwise(request: pytest.FixtureRequest) -> Any:
    """`plain`, or the address of the server with a short patience."""
    if getattr(request, "param", None) == "plain":
        return "plain"
    port = request.getfixturevalue("old").port
    return {"upstream": f"http://127.0.0.1:{port}/v1", "api_key_env": "OLD_SERVER_KEY", "timeout_s": 0.5}


@pytest.fixture
def policy(otherwise: Any) -> Policy:
    rollout = {"tenants": ["default"], "ramp": [0.5, 1.0], "otherwise": otherwise}
    return Policy.model_validate({**CONTENT, "rollout": rollout})


async def started(served: Served) -> None:
    """Until the gateway has looked at the rollout for the first time."""
    await served.until(lambda: served.gateway.rollouts._stage is not None)


async def ask(served: Served, name: str = OTHER, headers: Any = None, **body: Any) -> httpx.Response:
    await started(served)
    return await served.http.post("/v1/completions", json={"prompt": "x", "user": name, **body}, headers=headers)


@pytest.mark.parametrize("otherwise", ["plain"], indirect=True)
async def test_the_control_arm_is_the_same_service_without_speculation(served: Served) -> None:
    for name, arm, speculates in ((TREATED, "treatment", True), (OTHER, "control", False)):
        answer = await ask(served, name)
        assert (answer.status_code, answer.headers["x-adaserve-arm"]) == (200, arm)
        request = served.verifier.requests[-1]
        assert request.speculation is speculates
        again = await served.http.get(f"/v1/streams/{request.request}")
        assert again.headers["x-adaserve-arm"] == arm
    outside = await ask(served, OTHER, {"x-adaserve-tenant": "globex"})
    assert "x-adaserve-arm" not in outside.headers
    assert served.verifier.requests[-1].speculation
    await served.gateway.rollouts.look()
    arms = (await served.http.get("/admin/rollout", headers=ADMIN)).json()["arms"]
    assert arms == {arm: {"chat": {"attained": 1, "total": 1}} for arm in ("treatment", "control")}
    metrics = (await served.http.get("/metrics")).text
    assert 'adaserve_rollout_requests_total{arm="control",by="here"} 1.0' in metrics
    assert 'adaserve_rollout_finished_total{arm="treatment",met="true"} 1.0' in metrics


async def test_a_mounted_key_is_read_anew_and_one_that_has_gone_is_no_error_of_ours(
    served: Served, old: OldServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = tmp_path / "key"
    monkeypatch.setenv("OLD_SERVER_KEY_FILE", str(mounted))
    for key in ("sk-one", "sk-two"):
        mounted.write_text(f"{key}\n")
        assert (await ask(served)).status_code == 200
        assert old.asked[-1].headers["authorization"] == f"Bearer {key}"
    mounted.unlink()
    answer = await ask(served)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")
    assert str(mounted) not in answer.text


@pytest.mark.parametrize("otherwise", ["plain"], indirect=True)
async def test_without_a_user_the_idempotency_key_or_the_requests_id_decides(served: Served) -> None:
    await started(served)
    for header in ("idempotency-key", "x-request-id"):
        for name, arm in ((TREATED, "treatment"), (OTHER, "control")):
            sent = {"prompt": f"{header} {name}"}
            answer = await served.http.post("/v1/completions", json=sent, headers={header: name})
            assert answer.headers["x-adaserve-arm"] == arm
    answer = await ask(served, OTHER, {"idempotency-key": f"{TREATED} again"})
    assert answer.headers["x-adaserve-arm"] == "control"  # the user goes first


@pytest.mark.parametrize("otherwise", ["plain"], indirect=True)
async def test_an_operator_sets_the_step_halts_and_goes_on(served: Served) -> None:
    await started(served)

    async def put(body: Any) -> tuple[int, Any]:
        answer = await served.http.put("/admin/rollout", json=body, headers=ADMIN)
        return answer.status_code, answer.json()

    assert (await served.http.get("/admin/rollout")).status_code == 401
    assert (await served.http.put("/admin/rollout", json={"step": 1})).status_code == 401
    status, told = await put({"step": 2})
    assert (status, told["step"], told["share"], told["halted"]) == (200, 2, 1.0, None)
    assert (await ask(served, OTHER)).headers["x-adaserve-arm"] == "treatment"
    status, told = await put({"halt": True, "reason": "complaints"})
    assert (told["step"], told["halted"]) == (2, "complaints")
    status, told = await put({"step": 0})
    assert (told["step"], told["share"], told["halted"]) == (0, 0.0, "set to step 0")
    assert (await ask(served, TREATED)).headers["x-adaserve-arm"] == "control"
    status, told = await put({"resume": True})
    assert (told["step"], told["share"], told["halted"]) == (1, 0.5, None)
    for body in ({}, {"step": 1, "halt": True}, {"step": 3}, {"step": -1}, {"halt": False}, {"stop": True}):
        assert (await put(body))[0] == 400, body


async def test_the_body_goes_on_as_it_came_but_for_our_own_object(served: Served, old: OldServer) -> None:
    await started(served)
    body = f'{{ "prompt":"h\\u00e9 é", "adaserve": {{"slo": {{"tpot_ms": 99}}}},"user": "{OTHER}",  "seed":1 }}'
    sent = {
        "content-type": "application/json",
        "authorization": "Bearer the-clients-own",
        "x-request-id": "id-1",
        "cookie": "secret",
    }
    answer = await served.http.post("/v1/completions", content=body.encode(), headers=sent)
    assert (answer.status_code, answer.content) == (200, ANSWER)
    assert (answer.headers["x-adaserve-arm"], answer.headers["x-request-id"]) == ("control", "id-1")
    (asked,) = old.asked
    assert asked.path == "/v1/completions"
    assert asked.body.decode() == f'{{ "prompt":"h\\u00e9 é", "user": "{OTHER}",  "seed":1 }}'
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["x-request-id"] == "id-1"
    assert "cookie" not in asked.headers
    assert not served.verifier.requests
    assert not served.redis.keys(served.keys.request("*"))


async def test_chats_go_to_the_chats_of_the_other_server(served: Served, old: OldServer) -> None:
    await started(served)
    body = {"messages": [{"role": "user", "content": "x"}], "user": OTHER}
    assert (await served.http.post("/v1/chat/completions", json=body)).status_code == 200
    assert old.asked[0].path == "/v1/chat/completions"
    assert json.loads(old.asked[0].body) == body


async def test_the_treatment_arm_stays_here(served: Served, old: OldServer) -> None:
    answer = await ask(served, TREATED)
    assert (answer.status_code, answer.headers["x-adaserve-arm"]) == (200, "treatment")
    assert served.verifier.requests
    assert not old.asked


async def test_a_stream_is_passed_on_as_it_comes_and_counted(served: Served, old: OldServer) -> None:
    gate = asyncio.Event()
    rest = [b": a comment\n\n" + chunk("b"), chunk("c")[:9], chunk("c")[9:] + DONE]
    old.say = streams(chunk("a"), *rest, gate=gate)
    await started(served)
    got = b""
    body = {"prompt": "x", "user": OTHER, "stream": True}
    async with served.http.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-adaserve-arm"] == "control"
        async for data in answer.aiter_raw():
            got += data
            gate.set()  # only after the first event has arrived here
    assert got == b"".join([chunk("a"), *rest])
    await served.gateway.rollouts.look()
    assert served.gateway.rollouts.about()["arms"]["control"] == {"chat": {"attained": 1, "total": 1}}


def error_of(stream: str) -> Any:
    event = stream.rstrip().rpartition("event: error\ndata: ")[2]
    return json.loads(event)["error"]


@pytest.mark.parametrize(
    ("pieces", "status", "code"),
    [
        ((chunk("a"), b'data: {"half'), 502, "upstream_failed"),
        ((chunk("a"),), 502, "upstream_failed"),
        ((b"data: " + b"x" * 1_100_000,), 502, "upstream_failed"),
    ],
)
async def test_a_stream_that_breaks_off_ends_with_an_error_and_no_half_event(
    served: Served, old: OldServer, pieces: Any, status: int, code: str
) -> None:
    old.say = streams(*pieces)
    answer = await ask(served, stream=True)
    assert answer.status_code == 200
    assert error_of(answer.text)["code"] == code
    assert "half" not in answer.text
    assert "[DONE]" not in answer.text


async def test_a_stream_that_falls_silent_ends_with_a_timeout(served: Served, old: OldServer) -> None:
    old.say = streams(chunk("a"), chunk("b"), gate=asyncio.Event())
    answer = await ask(served, stream=True)
    assert answer.content.startswith(chunk("a"))
    assert error_of(answer.text)["code"] == "upstream_timeout"
    await served.until(lambda: old.num_left == 1)


@pytest.mark.parametrize(
    ("say", "status", "code", "words"),
    [
        (hangs, 504, "upstream_timeout", "did not answer in time"),
        (answers(500, b'{"error": {"message": "inside: %s"}}' % KEY.encode()), 502, "upstream_failed", "did not"),
        (answers(401, b'{"error": {"message": "bad key %s"}}' % KEY.encode()), 502, "upstream_failed", "did not"),
        (answers(302, b"{}", "location: http://127.0.0.1/x"), 502, "upstream_failed", "did not answer it"),
        (answers(200, b"<html>", kind="text/html"), 502, "upstream_failed", "did not answer it"),
        (answers(503, b"{}", "retry-after: 7"), 503, "unavailable", "no capacity now"),
        (answers(429, b'{"error": {"message": "slow down", "code": "rate"}}', "retry-after: 9"),
         429, "rate", "slow down"),
        (answers(429, b"no json"), 429, "upstream_refused", "refused it with 429"),
        (answers(400, b'{"error": {"message": "n too large, %s", "param": "n", "code": 5}}' % KEY.encode()),
         400, "5", "n too large, ***"),
        (answers(400, b'{"error": "odd"}'), 400, "upstream_refused", "refused it with 400"),
        (answers(404, b'{"message": "no such model"}'), 404, "upstream_refused", "refused it with 404"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_its_errors_come_in_our_shape_without_what_is_secret(
    served: Served, old: OldServer, say: Any, status: int, code: str, words: str, stream: bool
) -> None:
    old.say = say
    answer = await ask(served, stream=stream)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert error.keys() == {"message", "type", "param", "code"}
    assert words in error["message"]
    assert KEY not in answer.text
    assert str(old.port) not in answer.text
    assert answer.headers.get("retry-after") == {503: "7", 429: "9" if code == "rate" else "1"}.get(status)


async def test_a_server_that_is_not_there_is_a_bad_gateway(served: Served, old: OldServer) -> None:
    upstream = served.gateway.policies.current.rollout.otherwise  # type: ignore[union-attr]
    assert upstream is not None
    object.__setattr__(upstream, "upstream", "http://127.0.0.1:1/v1")
    answer = await ask(served)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unreachable")
    metrics = (await served.http.get("/metrics")).text
    assert 'adaserve_upstream_errors_total{kind="unreachable"} 1.0' in metrics
    assert 'route="/v1/completions",status="502"' in metrics


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_is_cancelled_there_too(served: Served, old: OldServer, stream: bool) -> None:
    upstream = served.gateway.policies.current.rollout.otherwise  # type: ignore[union-attr]
    object.__setattr__(upstream, "timeout_s", 30.0)
    old.say = streams(chunk("a"), chunk("b"), gate=asyncio.Event()) if stream else hangs
    await started(served)
    body = {"prompt": "x", "user": OTHER, "stream": stream}

    async def leave_after_the_first_event() -> None:
        async with served.http.stream("POST", "/v1/completions", json=body) as answer:
            async for _ in answer.aiter_raw():
                return

    asking = asyncio.create_task(leave_after_the_first_event())
    await served.until(lambda: old.asked)
    if not stream:
        asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await served.until(lambda: old.num_left == 1)


async def test_what_is_refused_here_is_refused_in_both_arms(served: Served, old: OldServer) -> None:
    for name in (TREATED, OTHER):
        assert (await ask(served, name, max_tokens=0)).json()["error"]["param"] == "max_tokens"
        assert (await ask(served, name, best_of=3)).json()["error"]["code"] == "unsupported_parameter"
    assert not old.asked


# ---- what holds wherever a request is answered ----


LIMITED = {"classes": ["chat"], "default": "chat", "rpm": 3, "tpm": 60, "max_tokens": 10, "max_concurrent": 1}


@pytest.fixture
def limited(otherwise: Any) -> Policy:
    """As above, with a tenant that has every limit."""
    rollout = {"tenants": ["default"], "ramp": [0.5, 1.0], "otherwise": otherwise}
    return Policy.model_validate(
        {**CONTENT, "tenants": {"default": LIMITED, "globex": CONTENT["tenants"]["globex"]}, "rollout": rollout}
    )


class TestLimits:
    @pytest.fixture
    def policy(self, limited: Policy) -> Policy:
        return limited

    async def test_a_tenant_has_as_many_requests_as_the_policy_says(self, served: Served, old: OldServer) -> None:
        answers_ = [await ask(served, prompt=[1], max_tokens=2) for _ in range(4)]
        assert [answer.status_code for answer in answers_] == [200, 200, 200, 429]
        assert [answer.headers["x-adaserve-arm"] for answer in answers_[:3]] == ["control"] * 3
        assert answers_[2].headers["x-ratelimit-remaining-requests"] == "0"
        assert answers_[3].json()["error"]["code"] == "rate_limit_exceeded"
        assert len(old.asked) == 3

    async def test_tokens_are_those_that_the_other_server_tells_of(self, served: Served, old: OldServer) -> None:
        """It says 1 where 4 were reserved."""
        for expected in (60 - 5, 60 - 2 - 5, 60 - 4 - 5):
            answer = await ask(served, prompt=[1], max_tokens=4)
            assert answer.headers["x-ratelimit-remaining-tokens"] == str(expected)
            await served.until(lambda: not served.gateway._quotas._tasks)

    async def test_a_stream_gives_back_what_it_did_not_use(self, served: Served, old: OldServer) -> None:
        old.say = streams(chunk("a"), chunk("b"), DONE)
        await ask(served, prompt=[1], max_tokens=10, stream=True)
        await served.until(lambda: not served.gateway._quotas._tasks)
        answer = await ask(served, prompt=[1], max_tokens=10)
        assert answer.headers["x-ratelimit-remaining-tokens"] == str(60 - 3 - 11)

    async def test_what_fails_takes_no_tokens(self, served: Served, old: OldServer) -> None:
        old.say = answers(500, b"{}")
        assert (await ask(served, prompt=[1], max_tokens=10)).status_code == 502
        await served.until(lambda: not served.gateway._quotas._tasks)
        old.say = answers(200, ANSWER)
        answer = await ask(served, prompt=[1], max_tokens=10)
        assert answer.headers["x-ratelimit-remaining-tokens"] == str(60 - 11)
        assert answer.headers["x-ratelimit-remaining-requests"] == "1"

    async def test_no_more_run_at_once_than_may(self, served: Served, old: OldServer) -> None:
        old.say = hangs
        first = asyncio.create_task(ask(served, prompt=[1], max_tokens=1))
        await served.until(lambda: bool(old.asked))
        assert (await ask(served, prompt=[1], max_tokens=1)).json()["error"][
            "code"
        ] == "concurrency_limit_exceeded"
        assert (await first).status_code == 504

    @pytest.mark.parametrize(
        ("body", "sent"),
        [
            ({"max_tokens": 99}, {"max_tokens": 10}),
            ({"max_tokens": 9}, {"max_tokens": 9}),
            ({}, {"max_tokens": 10}),
            ({"max_tokens": 99, "min_tokens": 50}, {"max_tokens": 10, "min_tokens": 10}),
            ({"max_tokens": 99, "min_tokens": 5}, {"max_tokens": 10, "min_tokens": 5}),
            (
                {"max_tokens": 99, "stop": "max_completion_tokens"},
                {"max_tokens": 10, "stop": "max_completion_tokens"},
            ),
            ({"max_tokens": 9, "n_predict": 900, "max_new_tokens": 900}, {"max_tokens": 9}),
        ],
    )
    async def test_the_other_server_is_asked_for_what_the_tenant_may_have(
        self, served: Served, old: OldServer, body: dict[str, Any], sent: dict[str, Any]
    ) -> None:
        assert (await ask(served, prompt=[1], **body)).status_code == 200
        assert json.loads(old.asked[0].body) == {"prompt": [1], "user": OTHER, **sent}

    async def test_a_chat_is_limited_under_the_name_it_uses(self, served: Served, old: OldServer) -> None:
        await started(served)
        body = {"messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 99, "user": OTHER}
        answer = await served.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        assert json.loads(old.asked[0].body) == {**body, "max_completion_tokens": 10}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"min_tokens": 9, "max_tokens": 5}, "min_tokens"),
        ({"logit_bias": {"999999999": 1}}, "logit_bias"),
        ({"prompt": ""}, "prompt"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}}, None),
    ],
)
async def test_both_arms_refuse_the_same(
    served: Served, old: OldServer, body: dict[str, Any], param: str | None
) -> None:
    refused = [await ask(served, name, **body) for name in (TREATED, OTHER)]
    assert [answer.status_code for answer in refused] == [400, 400]
    assert refused[0].json() == refused[1].json()
    assert param is None or refused[0].json()["error"]["param"] == param
    assert not old.asked


@pytest.mark.parametrize("name", ["tracestate", "traceparent", "x-request-id"])
async def test_a_header_that_is_none_is_not_passed_on(served: Served, old: OldServer, name: str) -> None:
    await started(served)
    answer = await served.http.post(
        "/v1/completions", json={"prompt": "x", "user": OTHER}, headers=[(name.encode(), b"a=\xe9")]
    )
    assert answer.status_code == 200
    assert old.asked[0].headers["x-request-id"] == answer.headers["x-request-id"]
    assert name == "x-request-id" or name not in old.asked[0].headers


async def test_a_stream_that_breaks_off_has_not_attained(served: Served, old: OldServer) -> None:
    old.say = streams(chunk("a"))
    await ask(served, stream=True)
    metrics = (await served.http.get("/metrics")).text
    assert 'adaserve_rollout_finished_total{arm="control",met="false"} 1.0' in metrics


async def test_an_upstream_that_does_not_answer_has_not_attained(served: Served, old: OldServer) -> None:
    """As here, where a request that fails has not; whole answers are judged on neither side of it."""
    old.say = streams(chunk("a"), DONE)
    await ask(served, OTHER, stream=True)
    old.say = answers(500, b"{}")
    for stream in (True, True, False):
        assert (await ask(served, OTHER, stream=stream)).status_code == 502
    old.say = answers(400, b"{}")
    assert (await ask(served, OTHER, stream=True)).status_code == 400
    await served.gateway.rollouts.look()
    arms = (await served.http.get("/admin/rollout", headers=ADMIN)).json()["arms"]
    assert arms["control"] == {"chat": {"attained": 1, "total": 3}}


class TestFailures:
    @pytest.fixture
    def policy(self) -> Policy:
        rollout = {"tenants": ["default"], "ramp": [0.5, 1.0], "period_hours": 1e-9, "min_requests": 3}
        return Policy.model_validate({**CONTENT, "rollout": rollout})

    async def test_a_class_whose_requests_fail_halts_the_ramp(self, served: Served) -> None:
        served.answers(lambda _: Reply([[5], [6]], finish="error", error="it broke"))
        for stream in (False, True, False):
            await ask(served, TREATED, stream=stream)
        await served.gateway.rollouts.look()
        await served.gateway.rollouts.look()
        stage = (await served.http.get("/admin/rollout", headers=ADMIN)).json()
        assert (stage["step"], stage["share"]) == (0, 0.0)
        assert "chat" in stage["halted"]
        metrics = (await served.http.get("/metrics")).text
        assert 'adaserve_slo_requests_total{met="false",slo_class="chat"} 3.0' in metrics
        assert 'adaserve_rollout_finished_total{arm="treatment",met="false"} 3.0' in metrics
        assert "adaserve_goodput_tokens_total" not in metrics or 'chat"} 0.0' in metrics

    async def test_who_leaves_has_not_been_failed(self, served: Served) -> None:
        await started(served)
        served.answers(lambda _: Reply([[5]], finish=None))
        with pytest.raises(httpx.ReadTimeout):
            await served.http.post("/v1/completions", json={"prompt": "x", "user": TREATED}, timeout=0.3)
        await served.until(lambda: bool(served.verifier.requests))
        await asyncio.sleep(0.1)
        lines = (await served.http.get("/metrics")).text.splitlines()
        assert {line.split()[-1] for line in lines if line.startswith("adaserve_slo_requests_total")} == {"0.0"}
