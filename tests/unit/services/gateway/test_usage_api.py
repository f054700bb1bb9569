"""/admin/usage, /admin/requests and their commands, on a served gateway."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from services.gateway import usage_report
from services.gateway.errors import ApiError
from services.gateway.tasks import end
from shared.usage import MEASURES, Period, Usage
from tests.unit.services.gateway.conftest import Served
from tests.unit.services.gateway.fake_verifier import Reply

NOW = datetime(2026, 11, 28, 22, 30, tzinfo=UTC)


async def complete(served: Served, **body: Any) -> str:
    answer = await served.http.post("/v1/completions", json={"prompt": [5, 6, 7], "max_tokens": 50, **body})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def slowly(served: Served, **slo: float) -> str:
    """With 25 ms for each of the two tokens after the first."""
    gate = asyncio.Event()
    served.answers(Reply([[5], [6, 7]], gate=gate))
    num_commits = len(served.verifier.statuses)
    asking = asyncio.create_task(complete(served, adaserve={"slo": slo}))
    await served.until(lambda: len(served.verifier.statuses) > num_commits)
    await asyncio.sleep(0.05)  # counted from the first token: on a busy machine that one may be late
    gate.set()
    return await asking


async def command(served: Served, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--url", served.url])


async def test_what_was_used_is_told_by_tenant_and_class(served: Served) -> None:
    await complete(served)
    await complete(served, adaserve={"slo": {"tpot_ms": 60_000}})
    (free, custom) = sorted(
        (await served.http.get("/admin/usage", params={"by": "hour"})).json()["rows"], key=lambda row: row["class"]
    )
    assert (free["tenant"], free["class"], custom["class"]) == ("default", "best_effort", "custom")
    assert (free["requests"], free["prompt_tokens"], free["met"], free["missed"]) == (1, 3, 0, 0)
    assert (custom["met"], custom["missed"]) == (1, 0)
    assert (custom["drafted_tokens"], custom["accepted_tokens"], custom["steps"]) == (8, 5, 4)
    found = (await served.http.get("/admin/usage")).json()
    assert found["totals"]["requests"] == 2
    assert found["totals"]["output_tokens"] == 2 * custom["output_tokens"] > 0
    assert (await served.http.get("/admin/usage", params={"tenant": "acme"})).json()["rows"] == []


async def test_the_server_counts_what_the_gateway_counts(served: Served) -> None:
    """Met and missed of the usage are those of adaserve_slo_requests_total."""
    for tpot_ms in (60_000, 60_000, 10):
        await slowly(served, tpot_ms=tpot_ms)
    totals = (await served.http.get("/admin/usage")).json()["totals"]
    figures = (await served.http.get("/metrics")).text
    for met in ("true", "false"):
        line = next(
            line
            for line in figures.splitlines()
            if line.startswith("adaserve_slo_requests_total{") and f'met="{met}"' in line
        )
        assert float(line.split()[-1]) == totals["met" if met == "true" else "missed"], line


async def test_csv_has_a_head_and_the_same_rows(served: Served) -> None:
    await complete(served)
    answer = await served.http.get("/admin/usage", params={"format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="usage-')
    head, row = csv.reader(io.StringIO(answer.text))
    assert head == ["start", "tenant", "class", *MEASURES]
    assert row[1:5] == ["default", "best_effort", "1", "3"]


@pytest.mark.parametrize(
    ("query", "param", "words"),
    [
        ({"since": "yesterday"}, "since", "'yesterday' is no ISO 8601 time"),
        ({"until": "2026-13-01"}, "until", "no ISO 8601 time"),
        ({"since": "2026-01-02", "until": "2026-01-01"}, "since", "is not before until, 2026-01-01T00:00:00Z"),
        ({"since": "2026-01-01", "until": "2026-04-04"}, "since", "more than 92 days before until"),
        ({"by": "week"}, "by", "'week'"),
        ({"format": "xml"}, "format", "'xml'"),
        ({"tenant": "x" * 129}, "tenant", "has 129 characters; it must have 1 to 128"),
    ],
)
async def test_odd_questions_are_refused_by_field(
    front: httpx.AsyncClient, query: dict[str, str], param: str, words: str
) -> None:
    answer = await front.get("/admin/usage", params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert words in answer.json()["error"]["message"]


def test_whole_hours_are_told() -> None:
    asked = usage_report.wanted(None, None, Period.HOUR, None, NOW)
    assert (asked.since, asked.until) == (
        NOW.replace(minute=0) - timedelta(days=1),
        NOW.replace(hour=23, minute=0),
    )
    whole = usage_report.wanted("2026-11-01", "2026-11-02T00:00:00Z", Period.DAY, "acme", NOW)
    assert (whole.since, whole.until) == (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))


async def test_rows_are_read_and_summed_up_beside_the_loop_that_serves(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await complete(served)
    threads = set()

    def noted(*given: Any) -> None:
        threads.add(threading.get_ident())
        collect(*given)

    collect = usage_report.collect
    monkeypatch.setattr(usage_report, "collect", noted)
    assert (await served.http.get("/admin/usage")).json()["totals"]["requests"] == 1
    assert threads
    assert threading.get_ident() not in threads


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(ApiError, match="hour makes more than 100000 rows; ask by day"):
        usage_report.check_size(100_001, Period.HOUR)


def test_csv_quotes_what_has_to_be_quoted() -> None:
    text = usage_report.in_csv({(NOW, 'a"b,c', "x\ny"): Usage(1)})
    assert next(iter(list(csv.reader(io.StringIO(text)))[1:]))[1:4] == ['a"b,c', "x\ny", "1"]


async def test_the_account_of_a_request_says_why(served: Served) -> None:
    answer = await slowly(served, tpot_ms=10, ttft_ms=60_000)
    found = (await served.http.get(f"/admin/requests/{answer}")).json()
    assert found["id"] == answer.removeprefix("cmpl-")
    assert (found["status"], found["finish"], found["verdict"], found["is_partial"]) == (
        "finished",
        "length",
        "missed",
        False,
    )
    assert found["timing"]["tpot_ms"] > 10
    assert found["timing"]["ttft_ms"] >= found["timing"]["gateway_ms"] > 0
    assert found["tokens"]["prompt"] == 3
    assert found["speculation"]["drafted_tokens"] == 8
    assert found["explanation"][0].startswith("It missed its targets")
    told = await command(served, "why", answer)
    assert told.output.splitlines() == found["explanation"]
    as_json = await command(served, "why", answer, "--json")
    assert json.loads(as_json.output) == found
    assert "hello" not in as_json.output


async def test_a_running_request_is_told_so_far(served: Served) -> None:
    await served.verifier.pause()
    asking = asyncio.create_task(complete(served))
    await served.until(lambda: any(served.redis.scan_iter(match=served.keys.request("*"))))
    (key,) = [key.decode() for key in served.redis.scan_iter(match=served.keys.request("*"))]
    found = (await served.http.get(f"/admin/requests/{key[-32:]}")).json()
    assert (found["status"], found["verdict"], found["is_partial"]) == ("queued", "none", True)
    assert found["explanation"][0] == "The request waits in its queue; so far: 0 tokens, class best_effort."
    await end([asking])


@pytest.mark.parametrize("name", ["0" * 32, "nobody"])
async def test_one_that_is_not_there_any_more_is_said_to_be_gone(front: httpx.AsyncClient, name: str) -> None:
    answer = await front.get(f"/admin/requests/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "request_not_found")
    assert "ended more than ten minutes ago" in answer.json()["error"]["message"]


async def test_adaserve_usage_tells_people_programs_and_spreadsheets(served: Served) -> None:
    await complete(served, adaserve={"slo": {"tpot_ms": 60_000}})
    lines = (await command(served, "usage", "--since", "2h", "--by", "hour")).output.splitlines()
    assert lines[0].split()[:4] == ["start", "tenant", "class", "requests"]
    assert lines[1].split()[1:4] == ["default", "custom", "1"]
    assert lines[-1].split()[0] == "total"
    assert lines[-1].endswith("100.0%")
    as_csv = (await command(served, "usage", "--csv", "--tenant", "default")).output
    assert as_csv.splitlines()[0] == ",".join(usage_report.HEAD)
    as_json = json.loads(
        (await command(served, "usage", "--json", "--since", "2020-01-01", "--until", "2020-01-02")).output
    )
    assert (as_json["rows"], as_json["since"]) == ([], "2020-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["usage", "--csv", "--json"], "--csv: give it or --json, not both"),
        (["usage", "--since", "3w"], "--since '3w' must be a date or time"),
        (["why", "nobody"], "REQUEST_ID 'nobody' must be 32 hex digits"),
    ],
)
def test_odd_commands_are_refused_with_a_line(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert words in done.output
