"""The two measurements of the selection run, small, and say what they promise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench import optimality, selection_speed


def test_with_nothing_to_end_a_requests_share_only_invalid_batches_depart_from_the_optimum() -> None:
    rng = np.random.default_rng(1)
    outcomes = [optimality.compare(rng, 8, 24, slo_nodes_factor=99.0) for _ in range(100)]
    valid = [outcome for outcome in outcomes if outcome.is_valid]
    assert len(valid) > 10
    assert all(outcome.met == outcome.met_optimal == outcome.met_most == 8 for outcome in valid)
    assert [outcome.tokens for outcome in valid] == pytest.approx([outcome.tokens_optimal for outcome in valid])
    assert all(outcome.met <= outcome.met_most for outcome in outcomes)
    assert all(outcome.tokens <= outcome.tokens_without_targets + 1e-9 for outcome in outcomes)


def test_optimality_reports_every_size(capsys: pytest.CaptureFixture[str]) -> None:
    optimality.main(["--instances", "2", "--json"])
    reports = json.loads(capsys.readouterr().out)
    assert [(report["num_requests"], report["budget"]) for report in reports] == optimality.SIZES
    optimality.main(["--instances", "2"])
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(optimality.SIZES)


def test_speed_times_every_side_on_checked_selections(capsys: pytest.CaptureFixture[str]) -> None:
    assert selection_speed.main(["--repetitions", "8", "--json"]) in (0, 1)
    lines = json.loads(capsys.readouterr().out)
    assert [(line["num_requests"], line["budget"]) for line in lines] == selection_speed.SIZES
    assert all(set(line["decide_us"]) == set(selection_speed.POLICIES) for line in lines)
