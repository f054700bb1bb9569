"""The drift demonstration's own judgement; `make drift` runs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.drift_alerts import drift_expressions
from bench.drift_watch import Verdict, drift_after
from bench.replay.recording import ServerSample

GOOD = Verdict(
    swapped_s=10.0,
    stopped_s=12.0,
    reason="acceptance_collapse",
    healed_s=30.0,
    back_s=41.5,
    answers=20,
    different=0,
    switches=1,
    drift_s=10.5,
    alerts={"DraftDrift": 15.0, "Other": None},
)


def test_the_verdict_tells_times_from_what_was_done() -> None:
    assert GOOD.holds
    assert GOOD.lines() == [
        "seen in the metrics, accepted below half of expected: after 0.5 s",
        "speculation stopped by itself: after 2.0 s, acceptance_collapse",
        "speculating, and gaining half of what it did: after 11.5 s of healing",
        "1 switches in all",
        "20 answers, 0 other than those of plain decoding, goal 0",
        "alert DraftDrift: after 5.0 s",
        "alert Other: never",
    ]


def test_it_does_not_hold_where_something_stayed_away() -> None:
    assert not replace(GOOD, stopped_s=None).holds
    assert not replace(GOOD, back_s=None).holds
    assert not replace(GOOD, different=1).holds
    assert not replace(GOOD, alerts={"DraftDrift": None}).holds
    assert "not evaluated" in replace(GOOD, alerts=None).lines()[-1]


def test_drift_is_seen_where_less_than_half_of_what_was_expected_is_accepted() -> None:
    counted = [(0, 0, 0), (1, 10, 2), (2, 20, 12), (3, 21, 12), (4, 31, 14)]
    samples = [ServerSample(at_s=at, values={"expected": e, "realised": r}) for at, e, r in counted]
    assert drift_after(samples, 0.0) == 1.0
    assert drift_after(samples, 1.0) == 4.0  # one token is too few
    assert drift_after(samples, 4.0) is None


def test_alerts_are_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "groups: [{rules: [{alert: DraftDrift, expr: a > 1}, {alert: Else, expr: b}, {record: drift, expr: c}]}]"
    )
    (tmp_path / "b.yaml").write_text("")
    assert drift_expressions(tmp_path) == {"DraftDrift": "a > 1"}
    assert drift_expressions(tmp_path / "none") == {}
