"""A report over a period: its counts, and how a Prometheus server is asked for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bench.proof import page, period, words
from bench.proof.coverage import Coverage, in_words
from bench.proof.period import ClassCounts, Period
from bench.proof.prometheus import NoHistory, Prometheus
from bench.proof.sides import Facts
from bench.proof.sources import from_prometheus
from bench.proof.used import TenantCounts
from bench.proof.when import moment
from bench.simulator.prices import Prices
from shared.errors import ConfigurationError, PolicyError
from tests.unit.cli.fake_gateway import running

PRICES = Prices.model_validate(
    {"currency": "EUR", "gpu_hour": 2.0, "gpus": 2, "tenants": {"a": {"per_million_tokens": 1.0}}}
)


def hour(met: float, target_s: float, accepted: float, **fields: Any) -> Period:
    return Period(
        start=0.0,
        end=3_600.0,
        classes={"chat": ClassCounts(met, 100 - met, 10 * met, 0.9), "idle": ClassCounts()},
        counted={
            "committed": 10_100.0,
            "finished_stop": 20.0,
            "finished_length": 80.0,
            "accepted": accepted,
            "target_s": target_s,
            "draft_s": 10.0,
        },
        **fields,
    )


def test_a_period_stands_beside_another_one() -> None:
    usage = {"a": TenantCounts(50, 1_000, 3_000, 40, 5), "b": TenantCounts(50, 1_000, 1_000, 40, 5)}
    found = period.facts(hour(90, 1_000, 5_000, tenants=usage), hour(60, 2_000, 0), PRICES, {"period": "today"})
    (chat,) = found.classes
    assert (chat.requests, chat.objective) == (100, 90.0)
    assert chat.attainment.difference.is_above
    assert chat.goodput.ours.value == 0.25
    assert found.tokens_per_pass.value == 2.0
    assert found.net_saving_per_1000.value == pytest.approx(1_000 * 1_000 / 10_100)
    a, _, everyone = found.tenants
    assert a.gpu_s_per_1000.ours.value == pytest.approx(
        1_000 * (2 * 1_000 + 10) * 4_000 / 6_000 / (10_100 * 3 / 4)
    )
    assert found.coverage == ""
    assert everyone.cost_per_1000 is not None
    assert everyone.cost_per_1000.ours.value == pytest.approx(1_000 * 4 / 10_100)
    assert "no gain to tell" in words.sentences(found)[2]
    assert "different traffic" in " ".join(found.limits)
    assert "today" in page.html(found, "a")


def test_what_each_tenant_used_in_whole_hours_is_brought_to_what_the_period_counted() -> None:
    usage = {"a": TenantCounts(300, 20_000, 60_000, 150, 50), "b": TenantCounts(100, 10_000, 20_200, 0, 0)}
    a, b, everyone = period.facts(hour(90, 1_000, 0, tenants=usage), None, PRICES, {}).tenants
    assert (a.requests, b.requests, everyone.requests) == (150, 50, 200)  # half of them with a target
    assert everyone.tokens == 10_100
    assert everyone.attainment.ours.value == 90.0
    assert (a.attainment.ours.value, b.attainment.ours.value) == (75.0, None)
    assert a.tokens + b.tokens == pytest.approx(10_100)
    paid = [one.cost_per_1000.ours.value * one.tokens / 1_000 for one in (a, b, everyone) if one.cost_per_1000]  # type: ignore[operator]
    assert paid[0] + paid[1] == pytest.approx(paid[2])
    assert paid[2] == pytest.approx(4.0)  # an hour of two GPUs


def test_only_what_prometheus_has_samples_of_is_priced_and_the_opening_says_so() -> None:
    known = Coverage.of([3_000.0, 3_060.0, 3_120.0], 60.0, 0.0, 3_600.0)
    found = period.facts(hour(90, 1_000, 0, covered=known), hour(90, 1_000, 0, covered=known), PRICES, {})
    everyone = found.tenants[-1]
    assert everyone.cost_per_1000 is not None
    assert everyone.cost_per_1000.ours.value == pytest.approx(1_000 * 4 * 180 / 3_600 / 10_100)
    assert found.total.goodput.ours.value == pytest.approx(900 / 180)
    told = (
        "Of the period Prometheus knows 3.0 min of the 1.0 h asked for (5 %); only these are counted and priced."
    )
    assert words.sentences(found)[0].startswith(f"{told} Of the period beside it Prometheus knows")
    assert found.limits[0] == told
    assert page.json(found)["coverage"].startswith(told)


def test_a_scrape_that_failed_is_not_worth_a_word() -> None:
    almost = Coverage.of([5.0 * at for at in range(700)], 5.0, 0.0, 3_600.0)
    assert almost.is_whole
    assert period.facts(hour(90, 1_000, 0, covered=almost), None, PRICES, {}).coverage == ""
    assert Coverage.of([5.0 * at for at in range(721)], 5.0, 0.0, 3_600.0).share == 1.0
    assert in_words(2 * 86_400) == "2.0 d"


def test_the_first_tokens_of_all_requests_came_with_their_prompts_whether_they_had_a_target_or_not() -> None:
    counted = {"committed": 1_000.0, "accepted": 400.0, "finished_stop": 30.0, "finished_length": 70.0}
    few = Period(start=0, end=60, classes={"c": ClassCounts(10, 0)}, counted=counted)
    work = period.work_of(few)
    assert (work.after_first, work.passes) == (900.0, 500.0)


def test_a_period_alone_compares_the_arms_of_its_rollout() -> None:
    counted = {"treatment_met": 90.0, "treatment_missed": 10.0, "control_met": 50.0, "control_missed": 50.0}
    alone = Period(start=0, end=60, classes={"c": ClassCounts(140, 60)}, counted=counted)
    found = period.facts(alone, None, None, {})
    assert found.arms_apart.is_above
    assert "without: 40.0 points" in words.sentences(found)[0]
    assert "no baseline" not in " ".join(found.limits)
    assert "The rollout" in page.html(found, "a")
    assert found.work.target_s is None
    assert found.tenants[-1].gpu_s_per_1000.ours.value is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", 1e9 - 5_400),
        ("1.5h", 1e9 - 5_400),
        ("1d", 1e9 - 86_400),
        ("1970-01-02", 86_400),
        ("1970-01-02T01:00+01:00", 86_400),
    ],
)
def test_times_are_given_as_people_do(text: str, expected: float) -> None:
    assert moment(text, 1e9, "--since") == expected


def test_other_times_are_refused_by_the_options_name() -> None:
    with pytest.raises(ConfigurationError, match="--since 'yesterday'"):
        moment("yesterday", 0.0, "--since")


# ---- Prometheus --------------------------------------------------------------------------------------------
class Answers(dict[str, Callable[[], str]]):
    """100 requests of a class, 80 attained; every counter 60 a step, every gauge 1; or always the same text."""

    def __init__(self, always: str | None = None) -> None:
        super().__init__()
        self.always = always

    def get(self, path: str, _default: object = None) -> Any:
        return (lambda: answer(path)) if self.always is None else (lambda: self.always)


def answer(path: str) -> str:
    query = parse_qs(urlsplit(path).query)["query"][0]
    if query.startswith("count("):
        return ok([{"metric": {}, "values": [[at, "4"] for at in range(0, 31, 5)]}])
    if "query_range" in path:
        values = [[at, "1" if query.startswith("avg") else "60"] for at in (0, 15, 30)]
        return ok([{"metric": {}, "values": values}])
    if "slo_requests" in query:
        return ok([vector("80", slo_class="chat", met="true"), vector("20", slo_class="chat", met="false")])
    if re.search("goodput|objective", query):
        return ok([vector("NaN" if "goodput" in query else "0.9", slo_class="chat")])
    return ok([vector("7")])


def vector(value: str, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [0, value]}


def ok(result: list[dict[str, Any]]) -> str:
    return json.dumps({"status": "success", "data": {"result": result}})


def test_a_server_is_asked_for_counts_and_their_course() -> None:
    heard: list[tuple[int, int]] = []
    rows = [{"tenant": "a", "requests": 100, "prompt_tokens": 5, "output_tokens": 7, "met": 80, "missed": 20}]
    with running() as server:
        server.pages = Answers()
        found = from_prometheus(
            server.url, (0.0, 30.0), (0.0, 30.0), None, lambda *_: {"rows": rows}, lambda *at: heard.append(at)
        )
    assert found.classes[0].attainment.ours.value == 80.0
    assert found.classes[0].objective == 90.0
    assert found.samples[-1].values["steps_bare"] == 180
    assert found.samples[-1].values["speculative"] == 1
    assert found.work.target_s == 7
    assert found.tenants[0].name == "a"
    assert heard[-1][0] == heard[-1][1]  # the bar ends at its end


def asked_with(rows: list[dict[str, Any]], prices: Path) -> tuple[list[tuple[str, str]], Facts]:
    asked: list[tuple[str, str]] = []

    def usage(since: str, until: str) -> dict[str, Any]:
        asked.append((since, until))
        return {"rows": rows}

    with running() as server:
        server.pages = Answers()
        return asked, from_prometheus(server.url, (0.0, 60.0), None, prices, usage)


def test_usage_is_asked_for_where_there_are_samples_and_its_tenants_must_have_prices(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("currency: EUR\ngpu_hour: 1\ngpus: 1\ntenants: {a: {per_million_tokens: 1}}\n")
    row = {"tenant": "a", "requests": 9, "prompt_tokens": 5, "output_tokens": 7, "met": 8, "missed": 1}
    asked, found = asked_with([row], prices)
    assert asked == [("1970-01-01T00:00:00+00:00", "1970-01-01T00:00:30+00:00")]
    assert found.seconds == 35.0
    with pytest.raises(PolicyError, match="no prices for the usage's tenant 'b'; there are a"):
        asked_with([row, {**row, "tenant": "b"}], prices)


def test_no_requests_are_told_with_the_period() -> None:
    def without(path: str) -> Callable[[], str]:
        return lambda: ok([]) if "slo_requests" in path else answer(path)

    with running() as server:
        server.pages = Answers()
        server.pages.get = lambda path, *_: without(path)  # type: ignore[method-assign]
        with pytest.raises(
            NoHistory, match="no requests with a target from 1970-01-01 00:00 to 1970-01-01 00:01 UTC"
        ):
            Prometheus(server.url).period(0.0, 60.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"status": "error", "error": "parse error"}', "parse error"),
        ("no", "does not answer as Prometheus does"),
        ("[]", "http://127"),
        ('{"error": {"message": "no such path"}}', r"does not answer as Prometheus does \(200\); is it"),
        (ok([]), r"0 s of the 1.0 min asked for \(0 %\) from 1970-01-01 00:00 to 1970-01-01 00:01 UTC: too few"),
    ],
)
def test_what_a_server_cannot_tell_is_one_line(text: str, words: str) -> None:
    with running() as server:
        server.pages = Answers(text)
        with pytest.raises(NoHistory, match=words):
            Prometheus(server.url).period(0.0, 60.0)


def test_a_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(NoHistory, match="no Prometheus at"):
        Prometheus("http://127.0.0.1:9").period(0.0, 60.0)
