"""A few seeds of the simulation, that a seed repeats, and that it sees what it is there to see."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from shared import functions
from tests.faults.examples import failing
from tests.faults.guards import GUARDS, PAIRS
from tests.faults.lab import Lab, laboratory
from tests.faults.mutants import hunt, without
from tests.faults.run import simulate
from tests.faults.simulation import campaign


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    logging.disable(logging.CRITICAL)
    with laboratory() as opened:
        yield opened
    logging.disable(logging.NOTSET)


def test_no_fault_costs_or_changes_a_token(lab: Lab) -> None:
    done = campaign(lab, range(1, 41))
    assert done.failures == {}
    assert done.ends["whole"] > 15
    assert done.reached["takeover"] + done.reached["reclaim"] > 0
    assert done.reached["fallback"] > 0


def test_a_seed_is_the_same_run_again(lab: Lab) -> None:
    first, again = simulate(lab, 7), simulate(lab, 7)
    assert first == again
    assert simulate(lab, 8) != first


def test_every_edit_fits_the_library() -> None:
    for guard in GUARDS.values():
        assert guard.edits or guard.patches
        assert (guard.edit(functions.LIBRARY) != functions.LIBRARY) == bool(guard.edits)
    assert all(name in GUARDS for pair in PAIRS for name in pair)


def test_no_example_fails_as_it_is(lab: Lab) -> None:
    assert failing(lab.socket, functions.LIBRARY) == []


@pytest.mark.parametrize(
    "name",
    [
        "fence",
        "position",
        "digest",
        "terminal",
        "behind",
        "same",
        "claim-cas",
        "claim-heartbeat",
        "live-list",
        "on-time",
        "consumer-pending",
        "commit-answered",
        "reseed",
        "sequence",
        "event-digest",
        "mark",
        "longest-chain",
        "reseed-fence",
    ],
)
def test_a_guard_has_an_example_that_fails_without_it(lab: Lab, name: str) -> None:
    with without(lab, [GUARDS[name]]) as mutant:
        assert failing(mutant.socket, mutant.library) != []


@pytest.mark.parametrize(("name", "first"), [("ack-in-claim", 11), ("delivery", 11), ("take-over", 1)])
def test_a_missing_guard_damages_a_stream_within_a_few_seeds(lab: Lab, name: str, first: int) -> None:
    assert hunt(lab, [GUARDS[name]], range(first, first + 100)).damaged_after > 0
