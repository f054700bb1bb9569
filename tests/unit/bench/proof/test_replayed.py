"""A report's figures from recorded replays."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.proof import page, replayed, words
from bench.proof.intervals import Interval
from bench.proof.money import payback_days
from bench.proof.sides import Facts
from bench.proof.sources import from_files
from bench.replay.recording import Recording, load, save
from bench.simulator.prices import Prices
from shared.errors import ConfigurationError, PolicyError
from tests.unit.bench.proof.recordings import recording, request, run

PRICES = Prices.model_validate(
    {
        "currency": "EUR",
        "gpu_hour": 3.6,
        "gpus": 1,
        "tenants": {
            "acme": {"per_million_tokens": 1_000.0, "introduction": 240.0},
            "other": {"per_million_tokens": 1.0, "introduction": 0.0},
        },
    }
)
OURS = recording(run([True] * 8 + [False] * 2, target_s=8.0, draft_s=1.0, accepted=50))
THEIRS = recording(run([True] * 2 + [False] * 8, target_s=12.0), system="plain")


def facts(ours: Recording = OURS, theirs: Recording | None = THEIRS, prices: Prices | None = PRICES) -> Facts:
    return replayed.facts(ours, theirs, prices, {"chat": 0.9})


def test_attainment_and_goodput_stand_beside_the_baselines() -> None:
    (chat,) = facts().classes
    assert (chat.name, chat.requests, chat.objective) == ("chat", 10, 90.0)
    assert (chat.attainment.ours.value, chat.attainment.theirs.value) == (80.0, 20.0)
    assert chat.attainment.difference.is_above
    seconds = 9 + 1.001  # from the first arrival to the last token
    assert chat.goodput.ours.value == pytest.approx(8 * 101 / seconds)


def test_each_accepted_token_spares_a_pass() -> None:
    work = facts().work
    assert (work.after_first, work.passes, work.spared) == (1_000, 500, 500)
    assert facts().tokens_per_pass.value == 2.0
    assert facts().baseline_work is not None
    assert facts().baseline_work.tokens_per_pass == 1.0  # type: ignore[union-attr]


def test_the_drafters_own_time_is_taken_off_what_is_saved() -> None:
    saved = facts().net_saving_per_1000
    assert saved.value == pytest.approx(1_000 * (12 - 8 - 1) / 1_010)
    assert saved.low is None  # one run


def test_tenants_bear_their_part_and_the_gain_pays_the_introduction_back() -> None:
    acme, everyone = facts().tenants
    assert (acme.name, everyone.name) == ("acme", None)
    assert acme.gpu_s_per_1000.ours.value == pytest.approx(1_000 * 9 / 1_010)
    gain = 6 * 101 * 1e-3 / (9 / 3_600)  # six requests more are paid for, in nine seconds
    assert acme.gain_per_hour is not None
    assert acme.gain_per_hour.value == pytest.approx(gain)
    assert acme.gain_per_hour.is_above
    days = acme.payback_days
    assert days is not None
    assert days.value == pytest.approx(240 / gain / 24)
    assert days.low == pytest.approx(240 / acme.gain_per_hour.high / 24)  # type: ignore[operator]
    assert days.high == pytest.approx(240 / acme.gain_per_hour.low / 24)  # type: ignore[operator]


def test_the_length_of_a_single_run_is_no_proof_of_a_difference_in_tokens_per_second() -> None:
    longer = run([True] * 10)
    last = longer.requests[-1]
    slow = last.model_copy(update={"last_ms": last.last_ms + 9})
    theirs = recording(longer.model_copy(update={"requests": [*longer.requests[:-1], slow]}), system="plain")
    found = facts(recording(run([True] * 10)), theirs, None)
    goodput = found.total.goodput
    assert goodput.difference.value == pytest.approx(1_010 / 10.001 - 1_010 / 10.010)
    assert [one.low for one in (goodput.ours, goodput.theirs, goodput.difference)] == [None] * 3
    assert "Tokens per second have none" in " ".join(found.limits)
    runs = [run([True] * 5, seed=seed) for seed in range(3)]
    assert facts(recording(*runs), recording(*runs, system="plain")).total.goodput.difference.low == 0.0


def test_a_run_without_goodput_makes_goodput_dearer() -> None:
    whole, none = run([True] * 5), run([False] * 5, seed=1)
    everyone = facts(recording(whole, none), None).tenants[-1]
    assert everyone.cost_per_1000 is not None
    assert everyone.cost_per_1000_goodput is not None
    cost, goodput = everyone.cost_per_1000.ours.value, everyone.cost_per_1000_goodput.ours.value
    assert goodput == pytest.approx(2 * cost)  # type: ignore[operator]


def test_gpus_that_only_drafting_needs_are_no_cost_of_the_baseline() -> None:
    dear = PRICES.model_copy(update={"drafter_gpus": 1})
    cheap, expensive = (facts(prices=one).tenants[0] for one in (PRICES, dear))
    assert cheap.gain_per_hour is not None
    assert expensive.gain_per_hour is not None
    assert cheap.gain_per_hour.value - expensive.gain_per_hour.value == pytest.approx(3.6)  # type: ignore[operator]


def test_the_opening_says_what_was_measured_and_no_more() -> None:
    promises, work, money = words.sentences(facts())
    assert promises.startswith("Of 10 requests with a promised response time, 80.0 % (49.0 to 94.3) kept it with")
    assert promises.endswith("more.")
    assert "2.00 tokens" in work
    assert "took 8.91 s of the machine's time with speculation" in work  # (8 + 1) s for 1,010 tokens
    assert "and 11.9 s without: 2.97 s less, measured too seldom for an interval" in work
    assert re.search(r"the introduction of 240 EUR is paid back after 0\.\d+ to 0\.\d+ days\.$", money)


def test_the_opening_is_honest_where_it_does_not_pay() -> None:
    promises, work, money = words.sentences(facts(ours=THEIRS, theirs=OURS))
    assert "fewer, so here speculation does harm" in promises
    assert "2.97 s more" in work
    assert "does not pay: it loses" in money
    same = words.sentences(facts(ours=OURS, theirs=OURS))
    assert "within what chance explains" in same[0]
    assert "not shown that speculation pays" in same[2]


def test_the_opening_without_baseline_prices_or_services_figures() -> None:
    bare = recording(run([True]).model_copy(update={"samples": []}))
    promises, work, money = words.sentences(facts(bare, None, None))
    assert "how many would have without was not measured" in promises
    assert "was not measured" in work
    assert money.startswith("Without prices")
    assert "no gain to tell" in words.sentences(facts(OURS, None))[2]
    limits = " ".join(facts(bare, None, None).limits)
    assert "no baseline" in limits
    assert "1 requests with a target" in limits
    assert "--metrics" in limits


def test_requests_without_targets_have_nothing_to_keep() -> None:
    none = recording(run([None, None]))
    found = facts(none, None, None)
    assert found.classes == []
    assert words.sentences(found)[0].startswith("No request had a target")


def test_three_runs_give_intervals_to_everything() -> None:
    ours = recording(*(run([True] * 5, seed=seed, target_s=8.0 + seed, accepted=10) for seed in range(3)))
    theirs = recording(*(run([True] * 4 + [False], seed=seed, target_s=12.0) for seed in range(3)), system="plain")
    found = facts(ours, theirs)
    assert found.net_saving_per_1000.low is not None
    assert found.seams_s == [5.0, 10.0]
    assert [(one.seed, one.ours, one.theirs) for one in found.run_by_run] == [(n, 100.0, 80.0) for n in range(3)]
    assert "Run by run" in page.html(found, "a")
    assert "Run by run" not in page.html(facts(), "a")
    assert [event.at_s for event in found.events] == [1.0, 6.0, 11.0]
    assert found.samples[-1].values["target_s"] == 8 + 9 + 10
    apart = found.total.attainment.difference
    assert apart.value == pytest.approx(20.0)
    assert apart.low is not None
    assert apart.low < 20.0  # the same in every run is not certain of other runs


def test_replays_that_cannot_be_compared_are_said_to_be() -> None:
    other = recording(run([True]), system="plain", temperature=0.5)
    limits = " ".join(facts(theirs=other, prices=None).limits)
    assert "different temperatures" in limits
    assert "different numbers of requests: their runs are no pairs" in limits
    far = facts(theirs=recording(run([True] * 10, seed=7), system="plain"))
    assert "different seeds (0 and 7): their runs are no pairs" in " ".join(far.limits)
    assert [(one.seed, one.theirs) for one in far.run_by_run] == [(0, None), (7, 100.0)]
    elsewhere = facts(theirs=THEIRS.model_copy(update={"trace": "another"}))
    assert "different traces: their runs are no pairs" in " ".join(elsewhere.limits)
    few = facts(varied(4, 1, 10.0), varied(3, 0, 10.0))
    assert "different numbers of runs (4 and 3): their runs are no pairs" in " ".join(few.limits)
    assert few.tenants[-1].gain_per_hour is not None


def test_a_class_that_few_runs_had_is_said_to_be() -> None:
    rare = run([True] * 5, seed=2)
    rare = rare.model_copy(update={"requests": [*rare.requests, request(5.0, category="rare")]})
    found = facts(recording(run([True] * 5), run([True] * 5, seed=1), rare), None)
    assert [one for one in found.limits if one.startswith("Class rare had requests in 1 of the runs")]
    assert not [one for one in found.limits if one.startswith("Class chat had requests in")]


def test_runs_are_pairs_by_their_seeds_whatever_their_order() -> None:
    ours, theirs = varied(4, 1, 10.0), varied(4, 0, 10.0)
    turned = theirs.model_copy(update={"runs": theirs.runs[::-1]})
    assert facts(ours, turned).paired
    assert facts(ours, turned).total == facts(ours, theirs).total
    assert facts(ours, turned).run_by_run == facts(ours, theirs).run_by_run
    others = [run.model_copy(update={"seed": run.seed + 4}) for run in theirs.runs]
    apart = facts(ours, theirs.model_copy(update={"runs": others}))
    assert not apart.paired
    assert apart.total.attainment.difference.low < 0 < facts(ours, theirs).total.attainment.difference.low  # type: ignore[operator]
    assert "known better than either side" in page.html(facts(ours, theirs), "a")
    assert "known better than either side" not in page.html(apart, "a")


def test_the_page_is_whole_and_shows_what_users_wrote_as_text() -> None:
    text = page.html(facts(), "<script>alert(1)</script>")
    assert "<script" not in text
    assert "&lt;b&gt;swapped&lt;/b&gt;" in text
    for outside in ("http://", "https://", "src=", "@import", "url("):
        assert outside not in text
    assert text.count("<svg") == text.count('role="img"') >= 2
    assert page.html(facts(), "a") == page.html(facts(), "a")


def test_the_page_stands_without_baseline_and_prices() -> None:
    text = page.html(facts(theirs=None, prices=None), "a")
    assert "were not read" not in text
    assert "paid back" not in text


def test_payback_is_a_date_only_where_the_gain_is_clear() -> None:
    found = facts()
    assert page.payback_dates(found)["acme"] == "2023-11-14 to 2023-11-15 (0.028 to 0.083 days)"
    assert page.payback_dates(facts(theirs=None))["acme"] == "–"


@pytest.mark.parametrize(
    ("gain", "told"),
    [
        (Interval(2.0, 1.0, 4.0), "2023-11-17 to 2023-11-24 (2.5 to 10 days)"),
        (Interval(1.0, -1.0, 4.0), "not before 2023-11-17 (2.5 days); a latest day is not within the interval"),
        (Interval(-2.0, -3.0, -1.0), "not shown to pay back"),
        (Interval(2.0), "not shown to pay back"),
        (Interval(1.0, 2e-6, 4.0), "2023-11-17 to a day not in our time (2.5 to 5,000,000 days)"),
    ],
)
def test_payback_is_as_wide_as_the_gain(gain: Interval, told: str) -> None:
    acme = replace(facts().tenants[0], gain_per_hour=gain, payback_days=payback_days(240.0, gain))
    assert page.payback_dates(replace(facts(), tenants=[acme])) == {"acme": told}


def test_figures_as_json_have_the_same_numbers() -> None:
    told = page.json(facts())
    assert told["classes"]["chat"]["attainment"]["ours"]["value"] == 80.0
    assert told["tenants"]["all"]["requests"] == 10
    assert told["work"]["tokens_per_pass"] == 2.0


# ---- files -------------------------------------------------------------------------------------------------
def test_a_recording_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    save(OURS, tmp_path / "a.json")
    assert load(tmp_path / "a.json") == OURS
    with pytest.raises(ConfigurationError, match="cannot be written"):
        save(OURS, tmp_path / "no" / "a.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not what `adaserve replay --save` writes"),
        ("[]", "no format"),
        ('{"format": "adaserve-replay", "version": 2}', "version 2; this AdaServe reads 1"),
        ('{"format": "adaserve-replay", "version": 1, "trace": "a"}', "model: Field required"),
    ],
)
def test_other_files_are_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        load(tmp_path / "a.json")


def test_a_request_out_of_bounds_is_named(tmp_path: Path) -> None:
    broken = OURS.model_dump_json().replace('"tokens":101', '"tokens":-1', 1)
    (tmp_path / "a.json").write_text(broken)
    with pytest.raises(ConfigurationError, match=r"runs\.0\.requests\.0\.tokens"):
        load(tmp_path / "a.json")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "none.json")


def test_files_swapped_and_tenants_without_prices_are_refused(tmp_path: Path) -> None:
    save(OURS, tmp_path / "on.json")
    save(THEIRS, tmp_path / "off.json")
    prices = tmp_path / "prices.yaml"
    prices.write_text("{currency: EUR, gpu_hour: 1.0, gpus: 1, tenants: {b: {per_million_tokens: 1.0}}}")
    with pytest.raises(ConfigurationError, match="give it as --baseline"):
        from_files([tmp_path / "off.json"], [tmp_path / "on.json"], None, None)
    with pytest.raises(PolicyError, match="no prices for the replay's tenant 'acme'"):
        from_files([tmp_path / "on.json"], [], prices, None)
    prices.write_text("{currency: EUR, gpu_hour: 1.0, gpus: 1, tenants: {acme: {per_million_tokens: 1.0}}}")
    assert from_files([tmp_path / "on.json"], [tmp_path / "off.json"], prices, None).currency == "EUR"
    save(recording(run([True]).model_copy(update={"requests": [request(0.0)]})), tmp_path / "on.json")
    with pytest.raises(PolicyError, match="arrive at once"):
        from_files([tmp_path / "on.json"], [], prices, None)


def test_runs_of_several_files_count_together_where_they_are_of_one_trace(tmp_path: Path) -> None:
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    save(OURS, one)
    save(OURS, other)
    assert from_files([one, other], [], None, None).runs == 2
    save(THEIRS, other)
    with pytest.raises(ConfigurationError, match=r"b.json: system 'plain', but 'speculation' in .*a.json"):
        from_files([one, other], [], None, None)


def varied(seeds: int, more: int, target_s: float) -> Recording:
    """Runs whose attainment differs, and whose machine time does."""
    runs = [
        run([True] * (2 + seed + more) + [False] * (5 - seed - more), seed=seed, target_s=target_s + (-1) ** seed)
        for seed in range(seeds)
    ]
    return recording(*runs, system="speculation" if more else "plain")


def test_runs_that_differ_widen_the_interval_and_the_pairs_narrow_it_again() -> None:
    found = facts(varied(4, 1, 10.0), varied(4, 0, 10.0), None)
    kept = found.total.attainment
    assert kept.ours.low is not None
    assert kept.ours.low < kept.ours.value  # type: ignore[operator]
    assert kept.difference.value == pytest.approx(100 / 7)
    assert "is within noise" in words.sentences(found)[1]


def test_more_machine_time_in_every_run_is_said_to_be_more() -> None:
    found = facts(varied(3, 1, 14.0), varied(3, 0, 10.0), None)
    assert found.net_saving_per_1000.is_below
    assert re.search(r"\) more, on average over the runs\.$", words.sentences(found)[1])


def test_failures_count_as_missed_and_are_told() -> None:
    broken = run([True]).requests[0].model_copy(update={"failure": "timeout", "tokens": 0})
    ours = recording(run([True] * 3).model_copy(update={"requests": [broken, *run([True] * 3).requests[1:]]}))
    found = facts(ours, OURS, None)
    assert found.failed == (1, 0)
    assert "1 requests failed, 0 without speculation; they count as missed." in found.limits
    assert found.total.attainment.ours.value == pytest.approx(200 / 3)
