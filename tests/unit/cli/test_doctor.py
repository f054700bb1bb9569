"""`adaserve doctor`: each thing that can be wrong is found, and nothing else."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis as Client
from typer.testing import CliRunner

from cli.diagnosis.looks import diagnosed
from cli.diagnosis.snapshot import Finding, Redis, Severity, Snapshot
from cli.diagnosis.speculation import MODE_REMEDIES
from cli.main import app
from services.verifier.governor import NO_DRAFTER, RING
from services.verifier.watch import Reason
from shared.topics import Keys
from tests.unit.cli.fake_gateway import running

ABOUT = {"token_map": "map"}
SERVER = Redis(
    version="9.1.2",
    info={"maxmemory_policy": "noeviction", "used_memory": 1 << 20, "maxmemory": 1 << 30, "aof_enabled": 1},
    members={
        "verifier": {"v.1": ABOUT},
        "drafter": {"d.1": ABOUT},
        "selector": {"s.1": {}},
        "gateway": {"g.1": {}},
    },
    waiting={0: (0, 0), 2: (3, 0)},
    clock_s=1_000_000.0,
)
WELL = Snapshot(
    url="http://x",
    statuses={"/live": 200, "/ready": 200, "/v1/models": 200, "/admin/mode": 200, "/admin/slo": 200},
    answers={
        "/admin/mode": {
            "orders": {},
            "verifiers": {"v.1": {"mode": "speculative", "reason": "", "since_ms": 1.0}},
        },
        "/admin/slo": {"policy": {"file": "policy.yaml", "error": None}},
        "/admin/live": {
            "verifiers": [{"name": "v.1", "calibration_error": 0.02}],
            "queue": {"tiers": [{"tier": 2, "waiting": 3, "oldest_s": 0.5}]},
        },
    },
    gateway_clock_s=1_000_000.5,
    redis_error="",
    redis=SERVER,
    otlp={"http://otel:4318": ""},
    load=0.5,
    cores=2,
)


def server(**odd: Any) -> Snapshot:
    return replace(WELL, redis=replace(SERVER, **odd))


def info(**odd: Any) -> Snapshot:
    return server(info={**SERVER.info, **odd})


def members(kind: str, about: dict[str, Any]) -> Snapshot:
    return server(members={**SERVER.members, kind: about})


def answers(path: str, answer: Any) -> Snapshot:
    return replace(WELL, answers={**WELL.answers, path: answer})


def statuses(**odd: int) -> Snapshot:
    return replace(WELL, statuses={**WELL.statuses, **{f"/{path}": status for path, status in odd.items()}})


def mode(mode: str, reason: str) -> Snapshot:
    told = {"mode": mode, "reason": reason, "since_ms": 1.0}
    return answers("/admin/mode", {"orders": {}, "verifiers": {"v.1": told}})


def poorly_calibrated(accepted: int) -> dict[str, Any]:
    depth = {"depth": 1, "accepted": accepted, "rejected": 10}
    return {"name": "v.1", "calibration_error": 0.2, "acceptance_by_depth": [depth]}


ILLS: dict[str, tuple[Snapshot, Severity, str]] = {
    "no gateway": (replace(WELL, gateway_error="refused"), Severity.PROBLEM, "no gateway at http://x: refused"),
    "not alive": (statuses(live=503), Severity.PROBLEM, "/live answers 503"),
    "not ready": (statuses(ready=503), Severity.PROBLEM, "/ready answers 503"),
    "a worker": (
        replace(WELL, statuses={"/live": 200, "/ready": 200, "/v1/models": 404}, answers={}),
        Severity.PROBLEM,
        "what answers at http://x is no gateway",
    ),
    "bad key": (
        replace(WELL, statuses={**WELL.statuses, "/v1/models": 401}),
        Severity.PROBLEM,
        "/v1/models asks for a key, or for another one",
    ),
    "no redis": (
        replace(WELL, redis=None, redis_error="Redis does not answer"),
        Severity.PROBLEM,
        "Redis does not answer",
    ),
    "old redis": (server(version="6.2.1"), Severity.PROBLEM, "version 6.2.1"),
    "eviction": (info(maxmemory_policy="allkeys-lru"), Severity.PROBLEM, "maxmemory-policy is allkeys-lru"),
    "full": (info(used_memory=1 << 30), Severity.PROBLEM, "100% of maxmemory, 1024 MiB, is used"),
    "tight": (info(used_memory=900 << 20), Severity.WARNING, "88% of maxmemory"),
    "forgetful": (info(aof_enabled=0), Severity.WARNING, "appendonly is no"),
    "broken disk": (info(aof_last_write_status="err"), Severity.PROBLEM, "append-only file failed"),
    "no verifier": (members("verifier", {"v.1": None}), Severity.PROBLEM, "no verifier lives"),
    "no drafter": (members("drafter", {}), Severity.WARNING, "no drafter lives"),
    "no selector": (members("selector", {}), Severity.WARNING, "no selector lives"),
    "late heartbeat": (
        members("verifier", {"v.1": ABOUT, "v.2": None}),
        Severity.WARNING,
        "v.2 has no heartbeat",
    ),
    "foreign draft": (members("drafter", {"d.1": {"token_map": "x"}}), Severity.PROBLEM, "is no verifier's"),
    "one foreign draft": (
        members("drafter", {"d.1": ABOUT, "d.2": {"token_map": "x"}}),
        Severity.WARNING,
        "is no verifier's",
    ),
    "two targets": (
        members("verifier", {"v.1": ABOUT, "v.2": {"token_map": "x"}}),
        Severity.PROBLEM,
        "verifiers have different token maps",
    ),
    "breaker": (
        mode("full_verification", RING),
        Severity.PROBLEM,
        "v.1 decodes without speculation: ring_deadline",
    ),
    "drift": (mode("full_verification", Reason.DRIFT), Severity.WARNING, "calibration_drift"),
    "order": (
        answers(
            "/admin/mode",
            {
                "orders": {"cell": {"mode": "full_verification", "reason": "an exercise"}},
                "verifiers": {"v.1": {"mode": "full_verification", "reason": "operator", "since_ms": 1.0}},
            },
        ),
        Severity.WARNING,
        "cell is ordered to full_verification: an exercise",
    ),
    "calibration": (
        answers("/admin/live", {"verifiers": [poorly_calibrated(900)]}),
        Severity.WARNING,
        "v.1: calibrated probabilities are off by 20%",
    ),
    "old request": (
        answers("/admin/live", {"queue": {"tiers": [{"tier": 1, "oldest_s": 31.0}]}}),
        Severity.WARNING,
        "the oldest request of tier 1 has waited for 31 s",
    ),
    "growth": (server(waiting={2: (40, 12)}), Severity.WARNING, "40 requests waiting in tier 2, 12 more"),
    "dead letters": (server(dead_letters=3), Severity.WARNING, "3 requests could not be served"),
    "policy": (
        answers("/admin/slo", {"policy": {"file": "p.yaml", "error": {"message": "line 3: no such class"}}}),
        Severity.PROBLEM,
        "the policy file was refused: line 3: no such class",
    ),
    "clock": (replace(WELL, gateway_clock_s=1_000_060.0), Severity.WARNING, "60 s ahead of Redis'"),
    "collector": (
        replace(WELL, otlp={"http://otel:4318": "refused"}),
        Severity.WARNING,
        "cannot be reached: refused",
    ),
    "threads": (replace(WELL, threads=8), Severity.WARNING, "8 threads are set for a forward pass"),
    "load": (replace(WELL, load=7.0), Severity.WARNING, "the load of this machine is 7.0 on 2 cores"),
}


def ills(snapshot: Snapshot) -> list[Finding]:
    return [one for one in diagnosed(snapshot) if one.severity in (Severity.PROBLEM, Severity.WARNING)]


def test_where_all_is_well_nothing_is_wrong() -> None:
    assert ills(WELL) == []
    assert {one.severity for one in diagnosed(WELL)} == {Severity.FINE}


@pytest.mark.parametrize("ill", ILLS)
def test_what_is_wrong_is_found_alone_with_why_and_what_to_do(ill: str) -> None:
    snapshot, severity, words = ILLS[ill]
    (found,) = ills(snapshot)
    assert (found.severity, words in found.what) == (severity, True), found
    assert found.why
    assert found.remedy


def test_the_url_alone_tells_what_the_gateway_knows() -> None:
    alone = replace(WELL, redis=None, redis_error=None)
    assert ills(alone) == []
    told = {**WELL.answers, "/admin/mode": {"orders": {}, "verifiers": {}}}
    (none,) = ills(replace(alone, answers=told))
    assert none.what == "the gateway sees no verifier with its token map"
    shut = replace(alone, answers={}, statuses={**WELL.statuses, "/admin/mode": 401})
    assert [one.severity for one in diagnosed(shut)].count(Severity.UNKNOWN) == 2


def test_a_few_tokens_say_nothing_of_calibration() -> None:
    assert ills(answers("/admin/live", {"verifiers": [poorly_calibrated(5)]})) == []


def test_without_keys_a_tenant_may_be_all_that_is_missing() -> None:
    shut = replace(WELL, statuses={**WELL.statuses, "/v1/models": 403}, codes={"/v1/models": "unknown_tenant"})
    assert ills(shut) == []
    (asked,) = [one for one in diagnosed(shut) if one.severity is Severity.UNKNOWN]
    assert asked.remedy == "name a tenant with --tenant"
    (wrong,) = ills(replace(shut, tenant="nobody"))
    assert (wrong.severity, wrong.what) == (Severity.PROBLEM, "the policy has no tenant nobody")
    assert [one.subject for one in ills(replace(shut, has_key=True))] == ["keys"]


def test_the_remedy_of_an_order_names_its_place() -> None:
    order = {"mode": "full_verification", "reason": ""}
    for place, words in (("class:fast", "auto --class fast,"), ("tenant:acme", "auto --tenant acme,")):
        (found,) = ills(answers("/admin/mode", {"orders": {place: order}, "verifiers": {}}))
        assert words in found.remedy


def test_the_gateway_of_another_cell_is_named() -> None:
    (found,) = ills(replace(answers("/admin/live", {"cell": "blue"}), cell="green"))
    assert found.what == "the gateway serves the cell blue, not green"


def test_where_nobody_lives_the_cell_may_be_another() -> None:
    nobody = replace(server(members={}), cell="blue")
    remedies = {one.remedy for one in ills(nobody)}
    assert remedies == {
        "start one; its log says why it ended; if services do run, they are of another cell than blue: "
        "--cell (ADASERVE_CELL)"
    }
    (alone,) = ills(members("selector", {}))
    assert "--cell" not in alone.remedy


def test_the_worst_comes_first() -> None:
    found = diagnosed(replace(ILLS["full"][0], load=99.0))
    assert [one.severity for one in found][:3] == [Severity.PROBLEM, Severity.WARNING, Severity.FINE]


def test_every_reason_of_a_mode_has_a_remedy() -> None:
    assert {NO_DRAFTER, RING, *Reason} == set(MODE_REMEDIES)


def doctor(*arguments: str, **environment: str) -> Any:
    env = {"REDIS_URL": "", "ADASERVE_REDIS_URL": "", **environment}
    return CliRunner().invoke(app, ["doctor", *arguments], env=env)


def test_a_real_redis_and_a_gateway_are_looked_at(
    redis_url: str, redis_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.bus_examination.BETWEEN_S", 0.01)
    keys = Keys("sick")
    redis_client.xadd(keys.dead, {"body": b"r"})
    redis_client.sadd(keys.members("verifier"), "v.1")
    with running() as gateway:
        gateway.pages = {
            "/live": lambda: "ok\n",
            "/ready": lambda: "ok\n",
            "/v1/models": lambda: "{}",
            "/admin/mode": lambda: json.dumps(WELL.answers["/admin/mode"]),
            "/admin/slo": lambda: json.dumps(WELL.answers["/admin/slo"]),
        }
        done = doctor("--url", gateway.url, "--redis", redis_url, "--cell", "sick", "--json")
    found = {(one["subject"], one["severity"]) for one in json.loads(done.output)["findings"]}
    assert done.exit_code == 1
    assert {
        ("gateway", "fine"),
        ("keys", "fine"),
        ("redis", "fine"),
        ("verifiers", "problem"),
        ("dead letters", "warning"),
        ("modes", "fine"),
        ("policy", "fine"),
    } <= found
    assert redis_client.smembers(keys.members("verifier")) == {b"v.1"}  # it has changed nothing


def test_what_is_not_there_is_said_in_words_without_a_password() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    done = doctor("--url", f"http://127.0.0.1:{port}", "--redis", f"redis://me:secret@127.0.0.1:{port}/0")
    assert done.exit_code == 2
    assert "PROBLEM  gateway: no gateway at" in done.output
    assert "what to do: start it, or name the right REDIS_URL" in done.output
    assert "secret" not in done.output
    assert "2 problems" in done.output


@pytest.mark.parametrize("option", ["--url", "--prometheus"])
@pytest.mark.parametrize("url", ["localhost:8000", "//localhost:8000", "grpc://localhost:8000"])
def test_a_url_without_a_scheme_is_told_with_the_one_that_is_meant(option: str, url: str) -> None:
    done = doctor(option, url)
    assert done.exit_code == 2
    words = " ".join(done.output.replace("│", "").split())
    assert f"{option}" in words
    assert f"{url!r} begins with neither http:// nor https://" in words
    assert "did you mean http://localhost:8000" in words


def test_a_misspelt_variable_is_noticed_as_services_notice_it() -> None:
    done = doctor("--url", "http://127.0.0.1:9", "--json", ADASERVE_REDIS_PASSWORDFILE="/x", ADASERVE_TREADS="2")
    found = {one["what"]: one for one in json.loads(done.output)["findings"] if one["subject"] == "environment"}
    wrong = "ADASERVE_REDIS_PASSWORDFILE is not a setting (did you mean ADASERVE_REDIS_PASSWORD_FILE?)"
    assert found[wrong]["severity"] == "problem"  # it is not used here either
    assert found["ADASERVE_TREADS is not a setting (did you mean ADASERVE_THREADS?)"]["severity"] == "warning"
    assert all(one["remedy"] for one in found.values())


def test_what_is_no_cell_cannot_be_looked_at() -> None:
    assert doctor("--cell", "a b").exit_code == 2


def test_what_is_no_url_of_redis_is_one_line() -> None:
    done = doctor("--redis", "me:secret@garbage")
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert "is no URL of a Redis" in done.output
    assert "secret" not in done.output
