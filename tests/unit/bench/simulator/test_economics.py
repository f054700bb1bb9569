"""Costs, earnings and payback (bench/simulator/economics.py)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import Outcome
from bench.simulator.economics import NEVER, Account, Statement, account, earnings, statements
from bench.simulator.prices import Prices
from bench.simulator.tenancy import Served

PRICES = Prices.model_validate(
    {
        "currency": "EUR",
        "gpu_hour": 2.0,
        "gpus": 4,
        "tenants": {
            "acme": {"per_million_tokens": 10.0, "per_million_missed": 1.0, "introduction": 240.0},
            "globex": {"per_million_tokens": 4.0},
        },
    }
)


def served(
    tenant: str = "acme", *, at_s: float = 0.0, prompt: int = 100, tokens: int = 101, met: bool | None = True
) -> Served:
    """10 ms a token; `met` None is best effort."""
    target_ms = {True: 20.0, False: 5.0, None: math.inf}[met]
    first_ms = 1_000 * at_s + 1
    return Served(
        tenant=tenant,
        prompt_tokens=prompt,
        outcome=Outcome(
            category="c",
            arrival_ms=1_000 * at_s,
            first_ms=first_ms,
            last_ms=first_ms + 10 * (tokens - 1),
            tokens=tokens,
            target_ms=target_ms,
        ),
    )


RUNS = st.lists(
    st.builds(
        served,
        st.sampled_from(["acme", "globex"]),
        at_s=st.floats(0, 3600),
        prompt=st.integers(1, 2000),
        tokens=st.integers(1, 300),
        met=st.sampled_from([True, False, None]),
    ),
    min_size=1,
    max_size=20,
).map(lambda run: [*run, served(at_s=3601.0)])


@pytest.mark.parametrize(("met", "each"), [(True, 10.0), (False, 1.0), (None, 10.0)])
def test_output_tokens_earn_by_whether_their_target_was_kept(met: bool | None, each: float) -> None:
    one = served(tokens=50, met=met)
    assert earnings(one, PRICES.tenants["acme"]) == pytest.approx(50 * each / 1e6)


def test_an_account_by_hand() -> None:
    run = [served(at_s=0.0), served("globex", at_s=0.0, prompt=299), served(at_s=3600.0, met=False)]
    mine = account([one for one in run if one.tenant == "acme"], run, PRICES)
    seconds = 3600.0 + 1.001  # the last token's
    assert mine.attainment == 50.0
    assert mine.tokens_per_s == pytest.approx(202 / seconds)
    assert mine.goodput_tokens_per_s == pytest.approx(101 / seconds)
    assert mine.cost_per_hour == pytest.approx(8.0 * 402 / 802)
    assert mine.earned_per_hour == pytest.approx(101 * 11 / 1e6)
    assert mine.margin_per_hour == pytest.approx(mine.earned_per_hour - mine.cost_per_hour)


@given(run=RUNS)
def test_tenants_add_up_to_the_whole(run: Sequence[Served]) -> None:
    found = statements([run], None, PRICES)
    total = found.pop(None)
    assert total.mean("cost_per_hour") == pytest.approx(PRICES.cost_per_hour)
    for figure in ("tokens_per_s", "goodput_tokens_per_s", "cost_per_hour", "earned_per_hour", "margin_per_hour"):
        assert sum(one.mean(figure) for one in found.values()) == pytest.approx(total.mean(figure), abs=1e-9)


@given(run=RUNS, other=RUNS)
def test_the_objects_are_strict_json(run: Sequence[Served], other: Sequence[Served]) -> None:
    for statement in statements([run], [other], PRICES).values():
        json.dumps(statement.json(), allow_nan=False)


@given(run=RUNS)
def test_a_system_gains_nothing_over_itself_and_never_pays_back(run: Sequence[Served]) -> None:
    for statement in statements([run, run], [run, run], PRICES).values():
        assert statement.gain_per_hour is not None
        assert statement.gain_per_hour.mean == 0.0
        assert statement.payback_days == (None if statement.introduction is None else NEVER)


def test_a_tenant_without_requests_costs_and_earns_nothing() -> None:
    nobody = statements([[served(), served(at_s=9.0)]], None, PRICES)["globex"].json()
    assert nobody["attainment"]["mean"] is nobody["cost_per_1000_goodput_tokens"] is None
    assert nobody["cost_per_hour"] == nobody["earned_per_hour"] == nobody["tokens_per_s"] == 0.0


def an_account(*, earned: float, goodput: float = 0.0) -> Account:
    return Account(
        attainment=100.0,
        tokens_per_s=goodput,
        goodput_tokens_per_s=goodput,
        cost_per_hour=9.0,
        earned_per_hour=earned,
    )


def test_the_gain_is_the_mean_difference_of_paired_runs_and_pays_the_introduction_back() -> None:
    ours = [an_account(earned=10.0), an_account(earned=30.0)]
    theirs = [an_account(earned=8.0), an_account(earned=28.0)]
    statement = Statement(accounts=ours, baseline=theirs, introduction=240.0)
    assert statement.gain_per_hour is not None
    assert (statement.gain_per_hour.mean, statement.gain_per_hour.ci95) == (2.0, 0.0)
    assert statement.payback_days == 5.0
    assert Statement(accounts=theirs, baseline=ours, introduction=0.0).payback_days == NEVER
    assert Statement(accounts=ours, baseline=theirs, introduction=None).payback_days is None
    assert Statement(accounts=ours, baseline=None, introduction=240.0).payback_days is None


def test_the_baseline_does_without_the_drafters_own_gpus() -> None:
    run = [served(at_s=0.0), served("globex", at_s=3600.0)]
    dear = PRICES.model_copy(update={"drafter_gpus": 2})
    total = statements([run, run], [run, run], dear)[None]
    assert total.mean("cost_per_hour") == pytest.approx(2.0 * 6)
    assert total.gain_per_hour is not None
    assert total.gain_per_hour.mean == pytest.approx(-2.0 * 2)


def test_cost_of_goodput_is_of_the_same_hour() -> None:
    statement = Statement(accounts=[an_account(earned=0.0, goodput=2.5)], baseline=None, introduction=None)
    assert statement.cost_per_1000_goodput_tokens == pytest.approx(1.0)  # 9 an hour for 9,000 tokens


def test_all_together_pay_back_only_where_every_introduction_is_known() -> None:
    run = [served(), served("globex", at_s=9.0)]
    assert statements([run], None, PRICES)[None].introduction is None
    acme = PRICES.model_copy(update={"tenants": dict.fromkeys(PRICES.tenants, PRICES.tenants["acme"])})
    assert statements([run], None, acme)[None].introduction == 480.0
