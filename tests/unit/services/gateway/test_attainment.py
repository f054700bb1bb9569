"""Five minutes of verdicts, class by class."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.attainment import LEAST_S, MAX_CLASSES, OTHER, SLICE_S, WINDOW_S, Attainment, Tally

ENDS = st.lists(
    st.tuples(st.floats(0, 700), st.sampled_from("ab"), st.booleans(), st.integers(0, 99)), max_size=40
)


@given(ENDS, st.floats(0, 300))
def test_the_window_forgets_what_is_older_and_nothing_else(
    ends: list[tuple[float, str, bool, int]], after: float
) -> None:
    attainment, ends = Attainment(), sorted(ends)
    for at, name, met, tokens in ends:
        attainment.finished(name, met=met, tokens=tokens, now_s=at)
    now = (ends[-1][0] if ends else 0.0) + after
    certain = [end for end in ends if end[0] > now - WINDOW_S + SLICE_S]
    possible = [end for end in ends if end[0] > now - WINDOW_S]
    found = attainment.tallies(now)
    for name in "ab":
        tally = found.get(name, Tally())
        assert sum(end[1] == name for end in certain) <= tally.requests
        assert tally.requests <= sum(end[1] == name for end in possible)
        assert tally.met <= sum(end[1] == name and end[2] for end in possible)
        assert tally.tokens <= sum(end[3] for end in possible if end[1] == name and end[2])


def test_names_are_bounded() -> None:
    attainment = Attainment()
    for number in range(3 * MAX_CLASSES):
        attainment.finished(f"class{number}", met=True, tokens=1, now_s=1.0)
    found = attainment.tallies(1.0)
    assert len(found) == MAX_CLASSES + 1
    assert found[OTHER].requests == 2 * MAX_CLASSES


def test_a_young_gateway_has_a_short_window() -> None:
    attainment = Attainment()
    assert attainment.window_s(9.0) == WINDOW_S  # nothing to divide
    attainment.finished("a", met=True, tokens=8, now_s=10.0)
    assert [attainment.window_s(now) for now in (10.0, 30.0, 1000.0)] == [LEAST_S, 20.0, WINDOW_S]
