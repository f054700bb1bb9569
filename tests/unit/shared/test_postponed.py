"""Calls wait for the end of what they are postponed for, in their order, and for nobody else's."""

from __future__ import annotations

import threading

import pytest

from shared.postponed import Postponed


def test_calls_are_made_at_the_end_in_their_order() -> None:
    postponed, made = Postponed(), list[int]()
    postponed.call(made.append, 0)
    assert made == [0]
    with postponed.until_end():
        postponed.call(made.append, 1)
        with postponed.until_end():
            postponed.call(made.append, 2)
        assert made == [0]
    assert made == [0, 1, 2]
    postponed.call(made.append, 3)
    assert made == [0, 1, 2, 3]


def test_an_exception_loses_none() -> None:
    postponed, made = Postponed(), list[int]()

    def failing() -> None:
        with postponed.until_end():
            postponed.call(made.append, 1)
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert made == [1]


def test_a_call_that_raises_ends_the_wait() -> None:
    postponed, made = Postponed(), list[int]()
    with pytest.raises(ZeroDivisionError), postponed.until_end():
        postponed.call(lambda: 1 / 0)
    with postponed.until_end():
        postponed.call(made.append, 1)
    assert made == [1]
    postponed.call(made.append, 2)
    assert made == [1, 2]


def test_catching_up_makes_those_that_wait_and_the_next_wait_again() -> None:
    postponed, made = Postponed(), list[int]()
    postponed.catch_up()
    with postponed.until_end():
        postponed.call(made.append, 1)
        postponed.catch_up()
        assert made == [1]
        postponed.call(made.append, 2)
        assert made == [1]
    assert made == [1, 2]


def test_other_threads_do_not_wait() -> None:
    postponed, made = Postponed(), list[int]()
    with postponed.until_end():
        other = threading.Thread(target=postponed.call, args=(made.append, 1))
        other.start()
        other.join()
        assert made == [1]
