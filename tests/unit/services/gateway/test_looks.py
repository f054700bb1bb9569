"""An operator's look at a stream is told once."""

from __future__ import annotations

from services.gateway.looks import LOOK_S, MAX_LOOKS, Looks


def test_pages_and_polls_of_a_look_are_one_look() -> None:
    looks = Looks()
    assert looks.is_new("ada", "s1", 0.0)
    assert not looks.is_new("ada", "s1", LOOK_S - 1)
    assert looks.is_new("ada", "s2", 1.0)
    assert looks.is_new("eve", "s1", 1.0)
    assert looks.is_new("ada", "s1", LOOK_S)


def test_only_so_many_are_remembered_and_the_forgotten_are_told_again() -> None:
    looks = Looks()
    assert all(looks.is_new("ada", str(number), 0.0) for number in range(MAX_LOOKS + 1))
    assert looks.is_new("ada", "0", 1.0)
    assert not looks.is_new("ada", str(MAX_LOOKS), 1.0)
