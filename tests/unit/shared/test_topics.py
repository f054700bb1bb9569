"""Every name of a cell, and that all of them share its hash tag."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from shared.errors import ConfigurationError, UnreadableMessage
from shared.messages import ControlEvent, DraftRequest
from shared.topics import CONTROL, DRAFT, NUM_TIERS, SELECT, TOKENS, VERIFY, Keys
from tests.strategies import messages

NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)


def names_of(keys: Keys, member: str) -> list[str]:
    return [
        *(keys.requests(tier) for tier in range(NUM_TIERS)),
        keys.released,
        keys.dead,
        keys.draft(member),
        keys.select,
        keys.verify(member),
        keys.tokens(member),
        keys.control,
        keys.request(member),
        keys.journal(member),
        keys.owned(member),
        keys.profile(member, "3"),
        keys.calibration(f"{member}:{member}"),
        keys.modes,
        keys.api_keys,
        keys.api_keys_version,
        keys.audit,
        keys.running(member),
        keys.spent,
        keys.incarnation,
        keys.inspect(member),
        keys.inspected,
        keys.members("verifier"),
        keys.heartbeat("verifier", member),
    ]


@given(cell=NAMES, member=NAMES)
def test_all_names_of_a_cell_differ_and_hash_to_one_slot(cell: str, member: str) -> None:
    names = names_of(Keys(cell), member)
    assert len(set(names)) == len(names)
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert all(name.startswith(f"{{{cell}}}:") for name in names)


def test_names_are_those_of_the_protocol() -> None:
    keys = Keys("eu-1")
    assert names_of(keys, "x.1")[3:] == [
        "{eu-1}:requests:3",
        "{eu-1}:requests:released",
        "{eu-1}:dead",
        "{eu-1}:draft:x.1",
        "{eu-1}:select",
        "{eu-1}:verify:x.1",
        "{eu-1}:tokens:x.1",
        "{eu-1}:control",
        "{eu-1}:request:x.1",
        "{eu-1}:out:x.1",
        "{eu-1}:owned:x.1",
        "{eu-1}:profile:x.1:3",
        "{eu-1}:calibration:x.1:x.1",
        "{eu-1}:modes",
        "{eu-1}:api_keys",
        "{eu-1}:api_keys:version",
        "{eu-1}:audit",
        "{eu-1}:running:x.1",
        "{eu-1}:spent",
        "{eu-1}:incarnation",
        "{eu-1}:inspect:x.1",
        "{eu-1}:inspected",
        "{eu-1}:verifiers",
        "{eu-1}:heartbeat:verifier:x.1",
    ]


@pytest.mark.parametrize("cell", ["", "a{b", "a}b", "a b", "x" * 65, "a:b"])
def test_a_cell_that_cannot_be_a_hash_tag_is_refused(cell: str) -> None:
    with pytest.raises(ConfigurationError, match="cell"):
        Keys(cell)


@pytest.mark.parametrize("tier", [-1, NUM_TIERS])
def test_an_unknown_tier_is_refused(tier: int) -> None:
    with pytest.raises(ValueError, match="tier"):
        Keys("a").requests(tier)


def test_topics_are_named_like_their_streams() -> None:
    keys = Keys("a")
    streams = [keys.draft("m"), keys.select, keys.verify("m"), keys.tokens("m"), keys.control]
    names = [DRAFT.name, SELECT.name, VERIFY.name, TOKENS.name, CONTROL.name]
    assert [stream.removeprefix(keys.prefix).split(":")[0] for stream in streams] == names


@given(message=messages(ControlEvent))
def test_a_topic_reads_what_it_wrote_and_nothing_else(message: ControlEvent) -> None:
    body = CONTROL.encode(message)
    assert CONTROL.encode(CONTROL.decode(body)) == body
    assert DRAFT.message is DraftRequest
    with pytest.raises(UnreadableMessage):
        DRAFT.decode(body)
