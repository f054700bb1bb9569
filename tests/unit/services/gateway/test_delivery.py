"""Whatever happens to the events, a client gets the journal's tokens, each once and in order."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.delivery import Behind, BrokenChain, Delivery, Delta, Gap, terminal
from shared import codec, digest
from shared.messages import TokenEvent
from shared.replies import Attached, JournalEntry

PROMPT = [9, 9, 9]
START = digest.extend(digest.EMPTY, PROMPT)


def chain(groups: list[list[int]], finish: str = "length", *, size: int = 0) -> tuple[list[TokenEvent], Attached]:
    """The events and the finished journal of an output committed in groups, ``size`` bytes of entry a token."""
    position, value = len(PROMPT), START
    events, entries = [], []
    for index, tokens in enumerate(groups):
        value = digest.extend(value, tokens)
        logprobs = b"".join(entry(at, size) for at in range(position, position + len(tokens)))
        events.append(
            TokenEvent(
                request="r",
                start=position,
                tokens=np.array(tokens, np.int32),
                digest=value,
                finish=finish if index == len(groups) - 1 else None,
                text_length=-1,
                stats=None,
                error=None,
                logprobs=logprobs,
            )
        )
        position += len(tokens)
        entries.append(JournalEntry(position, np.array(tokens, "<u4").tobytes(), logprobs))
    last = codec.encode(events[-1])
    return events, Attached("finished", position, value.hex(), 100.0, finish, last, tuple(entries))


def entry(position: int, size: int) -> bytes:
    return bytes([position]) * size


def delivery(size: int = 0) -> Delivery:
    return Delivery("r", len(PROMPT), START, size)


GROUPS = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=4), min_size=1, max_size=8)


@given(GROUPS, st.sampled_from([0, 4, 20]), st.data())
def test_lost_repeated_and_reordered_events_give_the_journal(
    groups: list[list[int]], size: int, data: st.DataObject
) -> None:
    events, journal = chain(groups, size=size)
    indices = data.draw(st.lists(st.integers(0, len(events) - 1), max_size=20))
    target, got = delivery(size), []
    for index in indices:
        try:
            delta = target.receive(events[index], 100.0 + index)
            got += [] if delta is None else [delta]
        except Gap:
            held = data.draw(st.integers(index, len(events) - 1))  # the journal may be ahead of the event
            entries = journal.journal[: held + 1]
            now = Attached("running", entries[-1].end, events[held].digest.hex(), 100.0, journal=entries)
            got += target.heal(journal if held == len(events) - 1 else now, 200.0)
    if target.end is None:
        got += target.heal(journal, 300.0)
    assert [delta.tokens for delta in got] == groups  # as if no event had been lost
    whole = [token for tokens in groups for token in tokens]
    assert [token for delta in got for token in delta.tokens] == whole == target.tokens
    assert [delta.end is not None for delta in got] == [False] * (len(got) - 1) + [True]
    assert target.digest.hex() == journal.digest
    assert target.logprobs == b"".join(entry(len(PROMPT) + at, size) for at in range(len(whole)))
    assert target.receive(events[-1], 0.0) is None
    assert target.heal(journal, 0.0) == []


def test_times_are_those_of_the_commits() -> None:
    events, _ = chain([[1], [2, 3], [4]])
    target = delivery()
    for event, at in zip(events, (10.0, 30.0, 25.0), strict=True):  # a clock may step back
        target.receive(event, at)
    assert (target.first_ms, target.last_ms) == (10.0, 30.0)


def test_a_healed_first_token_keeps_its_commit_time() -> None:
    _, journal = chain([[1], [2]])
    target = delivery()
    target.heal(replace(journal, last_token_ms=400.0), 500.0)
    assert (target.first_ms, target.last_ms) == (100.0, 400.0)
    target = delivery()
    target.heal(journal, 500.0)  # written by an older library
    assert target.last_ms == 500.0


@pytest.mark.parametrize("finish", ["cancelled", "error", "detached"])
def test_an_end_from_outside_may_come_at_any_position(finish: str) -> None:
    target = delivery()
    delta = target.receive(terminal("r", finish), 0.0)
    assert delta is not None
    assert delta.end is not None
    assert (delta.tokens, delta.end.finish) == ([], finish)


def test_tokens_of_another_chain_are_never_delivered() -> None:
    events, journal = chain([[1], [2]])
    others, other_journal = chain([[7], [8]])
    target = delivery()
    target.receive(events[0], 1.0)
    with pytest.raises(Gap):
        target.receive(others[1], 2.0)
    with pytest.raises(BrokenChain):
        target.heal(other_journal, 3.0)
    assert target.tokens == [1]
    assert len(target.heal(journal, 4.0)) == 1


def test_tokens_without_their_log_probabilities_are_not_delivered() -> None:
    events, journal = chain([[1], [2]])
    target = delivery(size=4)
    with pytest.raises(Gap):
        target.receive(events[0], 1.0)
    with pytest.raises(ValueError, match="log-probabilities"):
        target.heal(journal, 2.0)
    assert target.tokens == []


def test_log_probabilities_of_an_entry_that_begins_before_the_prefix_are_cut() -> None:
    """A reseed makes one entry of many commits."""
    events, _ = chain([[1], [2], [3]], size=4)
    _, journal = chain([[1, 2, 3]], size=4)
    target = delivery(size=4)
    target.receive(events[0], 1.0)
    target.heal(journal, 2.0)
    assert (target.tokens, bytes(target.logprobs)) == ([1, 2, 3], b"".join(entry(at, 4) for at in (3, 4, 5)))


@pytest.mark.parametrize("entries", [slice(1, None), slice(0, 2), slice(0, 0)])
def test_a_journal_with_a_hole_is_broken(entries: slice) -> None:
    _, journal = chain([[1], [2], [3]])
    target = delivery()
    with pytest.raises(BrokenChain):
        target.heal(replace(journal, status="running", terminal=b"", journal=journal.journal[entries]), 2.0)
    assert target.tokens == []


def shorter(events: list[TokenEvent], journal: Attached, **changes: Any) -> Attached:
    """The journal without all but its first commit."""
    values = {"status": "running", "position": len(PROMPT) + 1, "digest": events[0].digest.hex(), "terminal": b""}
    return replace(journal, journal=journal.journal[:1], **{**values, **changes})


def test_a_journal_shorter_than_the_prefix_is_behind() -> None:
    events, journal = chain([[1], [2], [3]])
    target = delivery()
    for event in events[:2]:
        target.receive(event, 1.0)
    with pytest.raises(Behind):
        target.heal(shorter(events, journal), 2.0)
    ended = codec.encode(events[-1])
    with pytest.raises(Behind):
        target.heal(shorter(events, journal, status="finished", terminal=ended), 2.0)


def test_a_cancel_ends_also_what_redis_has_forgotten_in_part() -> None:
    events, journal = chain([[1], [2], [3]])
    target = delivery()
    for event in events[:2]:
        target.receive(event, 1.0)
    last = codec.encode(terminal("r", "cancelled"))
    (delta,) = target.heal(shorter(events, journal, status="cancelled", terminal=last), 2.0)
    assert delta.end is not None
    assert (delta.tokens, delta.end.finish, target.tokens) == ([], "cancelled", [1, 2])


def test_an_end_without_tokens_comes_after_them() -> None:
    _, journal = chain([[1], [2]])
    last = codec.encode(terminal("r", "cancelled"))
    got = delivery().heal(replace(journal, status="cancelled", terminal=last), 2.0)
    assert got[:2] == [Delta([1]), Delta([2])]
    assert got[2].tokens == []
    assert got[2].end is not None


def test_a_reply_that_events_have_overtaken_is_old_and_not_wrong() -> None:
    events, journal = chain([[1], [2], [3]])
    target = delivery()
    for event in events[:2]:
        target.receive(event, 1.0)
    old = shorter(events, journal)
    assert target.heal(old, 2.0, asked_at=old.position) == []
    with pytest.raises(Behind):
        target.heal(old, 2.0, asked_at=old.position + 1)
    with pytest.raises(Behind):  # what has ended cannot have been overtaken
        target.heal(shorter(events, journal, terminal=codec.encode(events[-1])), 2.0, asked_at=old.position)


@given(GROUPS, st.data())
def test_whatever_is_lost_every_token_has_a_flag_that_is_right_or_unknown(
    groups: list[list[int]], data: st.DataObject
) -> None:
    events, journal = chain(groups)
    drafted = [data.draw(st.integers(0, len(group))) for group in groups]
    events = [replace(event, drafted=count) for event, count in zip(events, drafted, strict=True)]
    right = [place < count for group, count in zip(groups, drafted, strict=True) for place in range(len(group))]
    mine = Delivery("r", len(PROMPT), START, drafted=[])
    for event in data.draw(st.lists(st.sampled_from(events), max_size=2 * len(events))):
        with suppress(Gap):
            mine.receive(event, 1.0)
    known = len(mine.tokens)
    mine.heal(journal, 2.0)
    assert mine.drafted == right[:known] + [None] * (len(right) - known)
    assert delivery().drafted is None
