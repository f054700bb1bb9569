"""Replay against a gateway that answers as told, and its parts on their own."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench.prompts import source_text
from bench.replay.client import complete
from bench.replay.counters import (
    NoMetrics,
    Tally,
    busy_seconds,
    parse,
    scrape,
    settled,
    shares,
    tally_of_gateway,
    total,
)
from bench.replay.goodput import Targets, parse_goodput
from bench.replay.open_loop import NOT_SENT, send_all
from bench.replay.outcomes import by_client, by_server
from bench.replay.plan import Planned, Server, Wishes, fit, plan
from bench.replay.probe import probe
from bench.replay.recording import load
from bench.replay.replay import connected
from bench.replay.reply import Reply, refusal, take
from bench.replay.texts import read_prompts
from bench.traces import TraceRequest, sorted_trace
from cli.main import app
from shared.errors import ConfigurationError, TraceError
from tests.unit.cli.fake_gateway import FakeGateway, running

SERVER = Server(model="tiny", context=128, chars_per_token=3.0, least_chars_per_token=2.0, zero_load_ms=4.0)


def request(arrival_ms: float = 0.0, **fields: Any) -> TraceRequest:
    return TraceRequest(
        **{"arrival_ms": arrival_ms, "category": "c", "prompt_tokens": 8, "output_tokens": 4, **fields}
    )


def planned(at_ms: float = 0.0, targets: Targets | None = None, **fields: Any) -> Planned:
    values = {"category": "c", "body": {}, "prompt_tokens": 8, "cut": frozenset[str](), **fields}
    return Planned(at_ms=at_ms, targets=targets or Targets(), **values)


# ---- plan --------------------------------------------------------------------------------------------------
@given(prompt=st.integers(1, 5000), output=st.integers(1, 5000), context=st.integers(2, 4096))
def test_sizes_fit_the_context_and_shrink_only_when_they_must(prompt: int, output: int, context: int) -> None:
    sizes = fit(prompt, output, context)
    assert min(sizes) >= 1
    assert sum(sizes) <= context
    if prompt + output <= context:
        assert sizes == (prompt, output)
    if output <= context // 2:
        assert sizes[1] == output  # outputs decide what a trace measures: prompts yield first


@given(st.integers(1, 300), st.integers(1, 300), st.booleans())
def test_a_prompt_never_exceeds_what_the_context_surely_holds(prompt: int, output: int, is_known: bool) -> None:
    trace = sorted_trace("t", [request(prompt_tokens=prompt, output_tokens=output, prompt_id="p")])
    (one,) = plan(trace, SERVER, Wishes(), {"p": "x" * 999} if is_known else {})
    assert (
        1 <= len(one.body["prompt"]) <= 0.9 * 2.0 * (128 - one.body["max_tokens"]) or len(one.body["prompt"]) == 1
    )
    if is_known:
        assert "prompt" in one.cut
    assert ("output" in one.cut) == (one.body["max_tokens"] < output)


def test_a_plan_asks_for_what_the_trace_says() -> None:
    requests = [request(tpot_ratio=1.5, prompt_id="known"), request(100, tpot_ms=50.0), request(200)]
    wishes = Wishes(seed=2, speed=2.0, temperature=0.5, speculation=False)
    plans = plan(sorted_trace("t", requests), SERVER, wishes, {"known": "def f():"})
    assert [one.at_ms for one in plans] == [0.0, 50.0, 100.0]
    assert [one.body["adaserve"]["slo"] for one in plans] == [{"tpot_ms": 6.0}, {"tpot_ms": 50.0}, {}]
    assert plans[0].body["prompt"] == "def f():"
    assert len(plans[1].body["prompt"]) == 24
    assert len({one.body["seed"] for one in plans}) == 3
    body = plans[1].body
    assert (body["max_tokens"], body["ignore_eos"], body["temperature"], body["stream"]) == (4, True, 0.5, True)
    assert body["adaserve"]["speculation"] == {"enabled": False}
    assert not any(one.cut for one in plans)


def test_goodput_targets_replace_those_of_the_trace() -> None:
    targets = Targets(ttft_ms=300.0, e2e_ms=2_000.0)
    (one,) = plan(sorted_trace("t", [request(tpot_ms=5.0)]), SERVER, Wishes(targets=targets), {})
    assert one.targets == targets
    assert one.body["adaserve"]["slo"] == {"ttft_ms": 300.0}


def test_relative_targets_need_the_zero_load_latency() -> None:
    server = Server(model="m", context=99, chars_per_token=3, least_chars_per_token=2)
    with pytest.raises(ValueError, match="zero-load"):
        plan(sorted_trace("t", [request(tpot_ratio=1.0)]), server, Wishes(), {})


@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_source_text_has_the_length_asked_for_and_is_never_blank(num_chars: int, seed: int) -> None:
    text = source_text(num_chars, seed=seed)
    assert len(text) == num_chars
    assert text.strip()
    assert text == source_text(num_chars, seed=seed)


# ---- goodput -----------------------------------------------------------------------------------------------
@given(
    st.dictionaries(
        st.sampled_from(["ttft", "tpot", "e2el"]), st.floats(0, 3_600_000, exclude_min=True), min_size=1
    )
)
def test_goodput_words_name_the_targets(targets: dict[str, float]) -> None:
    found = parse_goodput([f"{name}:{value!r}" for name, value in targets.items()])
    assert found == Targets(
        tpot_ms=targets.get("tpot", math.inf),
        ttft_ms=targets.get("ttft", math.inf),
        e2e_ms=targets.get("e2el", math.inf),
    )


@pytest.mark.parametrize("text", ["tpot", "tpot:", "tpot:x", "tpot:0", "tpot:nan", "itl:5", "tpot:1 tpot:2", ":3"])
def test_odd_goodput_words_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--goodput"):
        parse_goodput([text])


def test_no_goodput_words_leave_the_trace_its_targets() -> None:
    assert parse_goodput([]) is None


# ---- prompts -----------------------------------------------------------------------------------------------
def test_prompts_are_read_plain_and_compressed(tmp_path: Path) -> None:
    lines = '{"prompt_id": "a", "category": "c", "prompt": "é"}\n\n{"prompt_id": "b", "prompt": "x"}\n'
    (tmp_path / "p.jsonl").write_text(lines)
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert read_prompts(tmp_path / "p.jsonl") == read_prompts(tmp_path / "p.jsonl.gz") == {"a": "é", "b": "x"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no prompts"),
        (b'{"prompt_id": "a", "prompt": "x"}\n{', "line 2: not JSON"),
        (b"[]", "line 1: prompt_id must be a text"),
        (b'{"prompt_id": "a", "prompt": ""}', "line 1: prompt must be a text of 1 to 1000000"),
        (b"\xff", "not text in UTF-8"),
    ],
)
def test_malformed_prompts_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "p.jsonl").write_bytes(content)
    with pytest.raises(TraceError, match=words):
        read_prompts(tmp_path / "p.jsonl")


def test_a_missing_file_of_prompts_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read_prompts(tmp_path / "none.jsonl")


# ---- replies and outcomes ----------------------------------------------------------------------------------
METRICS = {
    "time_to_first_token_ms": 30.0,
    "generation_time_ms": 60.0,
    "speculative_decoding": {"num_spec_steps": 2, "num_accepted_draft_tokens": 3},
}


def answered(**fields: Any) -> Reply:
    return Reply(
        first_ms=1_050.0,
        last_ms=1_120.0,
        finish_reason="length",
        usage={"completion_tokens": 7},
        metrics=METRICS,
        **fields,
    )


def test_an_outcome_has_the_servers_times_and_another_the_clients() -> None:
    one = planned(at_ms=10.0, targets=Targets(tpot_ms=11.0))
    served, seen = by_server(one, answered(), 1_000.0), by_client(one, answered(), start_ms=1_000.0)
    assert (served.ttft_ms, served.tpot_ms, served.attained) == (30.0, 10.0, True)
    assert (seen.ttft_ms, seen.tpot_ms, seen.attained) == (40.0, pytest.approx(70 / 6), False)
    assert (served.num_steps, served.num_accepted, served.tokens) == (2, 3, 7)


def test_a_server_without_metrics_is_judged_by_the_clients_clock() -> None:
    reply = answered()
    reply.metrics = {}
    assert by_server(planned(), reply, 1_000.0) == by_client(planned(), reply, 1_000.0)


def test_an_error_event_is_a_failure() -> None:
    reply = Reply()
    take({"error": {"message": "secret", "code": "request_lost"}}, reply, 1.0)
    assert reply.failure == "stream: request_lost"


@given(st.integers(300, 599), st.binary(max_size=60) | st.sampled_from([b'{"error": 3}', b'{"error": {}}', b"[]"]))
def test_a_refusal_has_a_reason_whatever_the_body(status: int, body: bytes) -> None:
    assert refusal(status, body).startswith(str(status))


def test_a_refusal_names_its_code() -> None:
    assert refusal(429, b'{"error": {"code": "queue_full"}}') == "429 queue_full"


# ---- open loop ---------------------------------------------------------------------------------------------
async def test_requests_leave_although_nothing_is_answered() -> None:
    answer = asyncio.Event()
    sent: list[float] = []

    async def send(one: Planned) -> Reply:
        sent.append(one.at_ms)
        if len(sent) == 5:
            answer.set()  # a closed loop would never come here
        await answer.wait()
        return answered()

    changes: list[tuple[int, int]] = []
    exchange = await send_all(
        [planned(float(at)) for at in range(5)], send, max_open=9, on_change=lambda *pair: changes.append(pair)
    )
    assert sent == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [reply.failure for reply in exchange.replies] == [None] * 5
    assert len(exchange.late_ms) == 5
    assert changes[-1] == (5, 5)


async def test_what_exceeds_the_open_requests_is_not_sent_but_reported() -> None:
    answer = asyncio.Event()

    async def send(one: Planned) -> Reply:
        await answer.wait()
        return answered()

    async def end() -> None:
        while len(changes) < 3:
            await asyncio.sleep(0)
        answer.set()

    changes: list[tuple[int, int]] = []
    both = asyncio.gather(
        send_all(
            [planned(), planned(), planned()], send, max_open=2, on_change=lambda *pair: changes.append(pair)
        ),
        end(),
    )
    exchange, _ = await both
    assert [reply.failure for reply in exchange.replies] == [None, None, NOT_SENT]
    assert changes[-1] == (3, 3)


# ---- counters ----------------------------------------------------------------------------------------------
GATEWAY_METRICS = """# TYPE adaserve_slo_requests_total counter
adaserve_slo_requests_total{met="true",slo_class="custom"} 5.0
adaserve_slo_requests_total{met="false",slo_class="custom"} 2.0
adaserve_slo_requests_total{met="false",slo_class="other"} 1.0
# TYPE adaserve_goodput_tokens_total counter
adaserve_goodput_tokens_total{slo_class="custom"} 70.0
"""
STEP_TIMES = """# TYPE adaserve_step_time_seconds histogram
adaserve_step_time_seconds_sum{part="forward"} 3.0
adaserve_step_time_seconds_sum{part="total"} 4.0
"""


def test_the_gateways_counters_are_summed_over_classes() -> None:
    samples = parse(GATEWAY_METRICS)
    assert tally_of_gateway(samples) == Tally(judged=8, attained=5, goodput_tokens=70)
    assert total(samples, "adaserve_slo_requests_total", slo_class="custom", met="false") == 2.0
    assert total(samples, "absent") == 0.0


def test_time_shares_are_of_the_time_between_two_readings() -> None:
    drafter = STEP_TIMES.replace("forward", "draft").replace("3.0", "1.0")
    busy = busy_seconds([parse(STEP_TIMES), parse(drafter)])
    assert busy == {"scheduling": 0.0, "speculation": 1.0, "verification": 3.0}
    assert shares(dict.fromkeys(busy, 0.0), busy) == {"scheduling": 0.0, "speculation": 0.25, "verification": 0.75}
    assert shares(busy, busy) is None


def test_text_that_is_no_metrics_is_refused() -> None:
    with pytest.raises(NoMetrics):
        parse("<html>{")


class Refusing(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(404 if request.url.path == "/" else 503, request=request)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "http://here:9101",
            "http://here:9101 answers 404, not with metrics; the path /metrics is needed: http://here:9101/metrics",
        ),
        ("http://here:9101/metrics", "http://here:9101/metrics answers 503, not with metrics"),
    ],
)
async def test_an_address_without_metrics_is_one_line_that_names_the_path(url: str, told: str) -> None:
    async with httpx.AsyncClient(transport=Refusing()) as client:
        with pytest.raises(NoMetrics) as refused:
            await scrape(client, url)
    assert str(refused.value) == told


# ---- a whole replay ----------------------------------------------------------------------------------------
class Told:
    """Makes a FakeGateway a server of completions: one event for each token, then usage and metrics."""

    def __init__(self, gateway: FakeGateway) -> None:
        self.gateway = gateway
        self.tpot_ms = 5.0
        self.refuse = 0  # so many of the requests with a target
        self.counts = dict.fromkeys(("true", "false", "tokens"), 0)
        gateway.prepare = self.prepare
        gateway.pages = {"/v1/models": self.models, "/metrics": self.metrics}

    def prepare(self, body: dict[str, Any]) -> None:
        tokens, slo = body["max_tokens"], body["adaserve"].get("slo", {})
        self.gateway.status, self.gateway.body = 200, None
        if slo and self.refuse:
            self.refuse -= 1
            self.gateway.status = 429
            self.gateway.body = b'{"error": {"code": "queue_full"}}'
            return
        if slo:
            is_met = self.tpot_ms <= slo.get("tpot_ms", math.inf)
            self.counts["true" if is_met else "false"] += 1
            self.counts["tokens"] += tokens * is_met
        usage = {"prompt_tokens": len(body["prompt"]) // 3, "completion_tokens": tokens}
        metrics = {**METRICS, "generation_time_ms": self.tpot_ms * (tokens - 1)}
        self.gateway.events = [
            *({"choices": [{"text": letter, "finish_reason": None}]} for letter in string.ascii_letters[:tokens]),
            {"choices": [{"text": "", "finish_reason": "length"}]},
            {"choices": [], "usage": usage, "metrics": metrics},
        ]

    def models(self) -> str:
        return json.dumps({"data": [{"id": "tiny", "max_model_len": 128}]})

    def metrics(self) -> str:
        lines = [
            f'adaserve_slo_requests_total{{met="{met}",slo_class="custom"}} {self.counts[met]}'
            for met in ("true", "false")
        ]
        return "\n".join(
            [*lines, f'adaserve_goodput_tokens_total{{slo_class="custom"}} {self.counts["tokens"]}', ""]
        )


@pytest.fixture
def told() -> Iterator[Told]:
    with running() as gateway:
        yield Told(gateway)


def replay(told: Told, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["replay", "--url", told.gateway.url, *arguments])
    return result.exit_code, result.output


WORKLOAD = ("--trace", "relative:rps=5,seconds=8,lengths=0.1,coding=1.4,chatbot=0.5", "--speed", "50")


def test_a_replay_reports_in_the_simulators_shape_and_agrees_with_the_server(told: Told) -> None:
    code, output = replay(
        told,
        *WORKLOAD,
        "--zero-load-ms",
        "4",
        "--json",
        "--seed",
        "3",
        "--seed",
        "4",
        "--tenant",
        "acme",
        "--api-key",
        "sk-a-b",
    )
    assert code == 0, output
    assert {(one["x-adaserve-tenant"], one["authorization"]) for one in told.gateway.headers} == {
        ("acme", "Bearer sk-a-b")
    }
    report = json.loads(output)
    assert report["seeds"] == [3, 4]
    assert report["hardware"] == "tiny"
    assert report["attainment"]["by_category"] == {"chatbot": 0.0, "coding": 100.0, "summarization": 100.0}
    assert report["tpot_ms"] == {"p50": 5.0, "p99": 5.0}
    assert report["ttft_ms"]["p50"] == 30.0
    assert report["tokens_per_verification"] == 2.5
    assert report["time_share"] == {"scheduling": None, "speculation": None, "verification": None}
    extra = report["replay"]
    assert extra["requests"] == 80
    assert extra["failures"] == {}
    assert [tally["equal"] for tally in extra["tally"]] == [True, True]
    assert extra["tally"][0]["server"]["goodput_tokens"] > 0
    assert extra["prompt_tokens"]["sent"] == pytest.approx(extra["prompt_tokens"]["planned"], rel=0.3)


POLICY = """
classes:
  coding: {tpot: 1.4x, objective: 0.5}
  chatbot: {tpot: 0.5x}
  summarization: {}
tenants:
  acme: {classes: [coding, chatbot], default: chatbot}
  globex: {classes: [chatbot, summarization], default: summarization}
"""


def test_a_replay_is_kept_whole_and_reported_on(told: Told, tmp_path: Path) -> None:
    policy, on, off, page = (tmp_path / name for name in ("policy.yaml", "on.json", "off.json", "r.html"))
    policy.write_text(POLICY)
    common = (*WORKLOAD, "--zero-load-ms", "4", "--policy", str(policy))
    assert replay(told, *common, "--save", str(on))[0] == 0
    first = told.gateway.headers[-40:]
    assert {one["x-adaserve-tenant"] for one in first} == {"acme", "globex"}
    assert {one["adaserve"]["slo"]["class"] for one in told.gateway.asked[-40:]} == {
        "coding",
        "chatbot",
        "summarization",
    }
    told.tpot_ms = 50.0
    assert replay(told, *common, "--system", "plain", "--save", str(off))[0] == 0
    (run,) = load(on).runs
    assert len(run.requests) == 40
    assert len(run.samples) >= 2
    assert sorted(one.tenant for one in run.requests) == sorted(one["x-adaserve-tenant"] for one in first)
    result = CliRunner().invoke(
        app,
        [
            "report",
            "--replay",
            str(on),
            "--baseline",
            str(off),
            "--policy",
            str(policy),
            "--out",
            str(page),
            "--json",
        ],
    )
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["classes"]["coding"]["attainment"]["difference"]["value"] == 100.0
    assert figures["classes"]["coding"]["objective"] == 50.0
    assert set(figures["tenants"]) == {"acme", "globex", "all"}
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either --replay or --prometheus"),
        (["--prometheus", "http://p", "--baseline", "b.json"], "--baseline goes with --replay"),
        (["--prometheus", "http://p", "--since", "soon"], "--since 'soon'"),
        (["--prometheus", "http://p", "--since", "1h", "--until", "2h"], "not before the end"),
        (["--prometheus", "http://p", "--baseline-until", "1h"], "--baseline-until goes with --baseline-since"),
        (["--replay", "/nowhere.json"], "cannot be read"),
        (["--replay", "/nowhere.json", "--out", "/nowhere/r.html"], "no such folder"),
    ],
)
def test_what_cannot_be_reported_is_one_line_and_exit_code_two(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["report", *arguments])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert words in result.stderr


def test_refused_requests_have_not_attained_and_are_named(told: Told) -> None:
    told.refuse = 3
    code, output = replay(told, *WORKLOAD, "--limit", "10", "--zero-load-ms", "100", "--system", "plain", "--json")
    assert code == 0, output
    report = json.loads(output)
    assert report["attainment"]["mean"] == 70.0
    assert report["replay"]["failures"] == {"429 queue_full": 3}
    assert report["replay"]["tally"][0]["client"]["judged"] == 7
    assert report["replay"]["tally"][0]["equal"] is True
    assert not any(body["adaserve"]["speculation"]["enabled"] for body in told.gateway.asked)


def test_people_get_a_table_and_notes(told: Told, tmp_path: Path) -> None:
    told.refuse = 1
    told.gateway.pages["/drafter"] = lambda: STEP_TIMES
    prompts = tmp_path / "p.jsonl"
    prompts.write_text(json.dumps({"prompt_id": "coding-0", "prompt": "def f():\n" * 99}) + "\n")
    code, output = replay(
        told,
        *("--trace", "paper:rps=1,seconds=9", "--speed", "100", "--prompts", str(prompts)),
        *("--metrics", f"{told.gateway.url}/drafter", "--goodput", "tpot:6", "ttft:29"),
    )
    assert code == 0, output
    words = re.sub(r"\s+", " ", output)
    assert "paper:rps=1,seconds=9 · tiny · speculation" in words
    assert "failed: 1 × 429 queue_full" in words
    assert "cut to the context of 128 tokens" in words
    assert "attainment 0.0 %" in words  # the first token takes 30 ms
    assert "0 of 8 attained" in words
    assert "DIFFERENT" in words  # the fake knows no TTFT
    assert all(body["adaserve"]["slo"] == {"tpot_ms": 6.0, "ttft_ms": 29.0} for body in told.gateway.asked[-9:])


def test_nothing_finished_is_exit_code_one(told: Told) -> None:
    told.refuse = 99
    told.gateway.pages.pop("/metrics")
    code, output = replay(told, *WORKLOAD, "--limit", "2")
    assert code == 1
    assert "2 × 429 queue_full" in output
    assert "no /metrics to compare with" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trace", "papr"], "no such file, and no preset"),
        (["--trace", "paper", "--seconds", "0"], "nothing of paper arrives by then"),
        (["--trace", "paper", "--speed", "nan"], "Invalid value for '--speed'"),
        (["--trace", "paper", "ttft:5"], "unexpected argument 'ttft:5'"),
        (["--trace", "paper", "--goodput", "x:5"], "--goodput x:5"),
        (["--trace", "paper", "--prompts", "/nowhere.jsonl"], "cannot be read"),
        (["--trace", "paper", "--save", "/nowhere/a.json"], "no such folder"),
    ],
)
def test_what_cannot_be_replayed_is_one_line_and_exit_code_two(
    told: Told, arguments: list[str], words: str
) -> None:
    code, output = replay(told, *arguments)
    assert code == 2
    assert words in output
    assert not told.gateway.asked


def test_a_server_that_is_no_gateway_is_said_so(told: Told) -> None:
    told.gateway.pages = {"/v1/models": lambda: json.dumps({"data": [{"id": "m", "max_model_len": 10}]})}
    assert "context of 10 tokens; it must have at least" in replay(told, "--trace", "paper")[1]
    told.gateway.pages = {"/v1/models": lambda: "{}"}
    assert "does not tell a model's id and max_model_len" in replay(told, "--trace", "paper")[1]
    told.gateway.pages = {}
    assert "answered 404 to /v1/models" in replay(told, "--trace", "paper")[1]
    assert "is not a URL" in replay(told, "--trace", "paper", "--url", "http://a:b")[1]
    code, output = replay(told, "--trace", "paper", "--url", "http://127.0.0.1:1")
    assert code == 1
    assert "no gateway at http://127.0.0.1:1" in output


def test_a_server_that_refuses_every_completion_is_said_so(told: Told) -> None:
    told.gateway.prepare = lambda _: None
    told.gateway.status = 503
    told.gateway.body = b"{}"
    assert "failed a completion of 33 tokens: 503 error" in replay(told, "--trace", "paper")[1]


async def test_an_answer_that_breaks_off_or_is_no_json_is_a_failure(told: Told) -> None:
    told.gateway.prepare = lambda _: None
    told.gateway.events = [{"choices": [{"text": "a"}]}]
    async with httpx.AsyncClient(base_url=told.gateway.url) as client:
        assert (await complete(client, {"max_tokens": 1}, 5.0)).failure == "stream ended early"
        told.gateway.body = b"data: {]\n\n"
        assert (await complete(client, {"max_tokens": 1}, 5.0)).failure == "unreadable answer"
        assert (await complete(client, {"max_tokens": 1}, 0.0)).failure == "timeout"
    async with httpx.AsyncClient(base_url="http://127.0.0.1:1") as client:
        assert (await complete(client, {}, 5.0)).failure == "connection: ConnectError"


async def test_a_tally_that_never_comes_is_not_waited_for_long(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.replay.counters.SETTLE_S", 0.04)
    nothing = Tally(judged=0, attained=0, goodput_tokens=0)
    async with httpx.AsyncClient(base_url=told.gateway.url) as client:
        assert await settled(client, "/metrics", nothing, judged=1) == nothing


async def test_a_server_without_commit_times_is_timed_by_the_client(told: Told) -> None:
    async with connected(told.gateway.url) as client:
        prepare = told.prepare

        def without_metrics(body: dict[str, Any]) -> None:
            prepare(body)
            told.gateway.events[-1].pop("metrics")

        told.gateway.prepare = without_metrics
        server = await probe(client, {}, None)
    assert server.zero_load_ms is not None
    assert 0 < server.zero_load_ms < 1_000
