"""A report over a period: its counts, and how a Prometheus server is asked for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bench.proof import page, period, words
from bench.proof.period import ClassCounts, Period, TenantCounts
from bench.proof.prometheus import NoHistory, Prometheus
from bench.proof.sources import from_prometheus
from bench.proof.when import moment
from bench.simulator.prices import Prices
from shared.errors import ConfigurationError
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
    assert everyone.cost_per_1000 is not None
    assert everyone.cost_per_1000.ours.value == pytest.approx(1_000 * 4 / 10_100)
    assert "no gain to tell" in words.sentences(found)[2]
    assert "different traffic" in " ".join(found.limits)
    assert "today" in page.html(found, "a")


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"status": "error", "error": "parse error"}', "parse error"),
        ("no", "does not answer as Prometheus does"),
        ("[]", "http://127"),
        (ok([]), "knows of no requests with a target"),
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
