"""API keys: what is stored, what is good, and what survives a Redis that forgets (shared/api_keys.py)."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import api_keys
from shared.api_keys import MAX_NOTE, MAX_SECRETS, ApiKey, Scope, StoredSecret, Verdict, judge, merged
from shared.errors import ConfigurationError, UnreadableMessage

TIMES = st.none() | st.integers(0, 2**53)
KEYS = st.builds(
    ApiKey,
    id=st.from_regex(r"[a-z0-9]{1,32}", fullmatch=True),
    tenant=st.text(max_size=64),
    scopes=st.lists(st.sampled_from(Scope), min_size=1, max_size=2, unique=True).map(tuple),
    created_ms=st.integers(0, 2**53),
    changed_ms=st.integers(0, 2**53),
    secrets=st.lists(
        st.builds(StoredSecret, st.binary(min_size=32, max_size=32), TIMES), min_size=1, max_size=MAX_SECRETS
    ).map(tuple),
    expires_ms=TIMES,
    revoked_ms=TIMES,
    note=st.text(max_size=40),
)
SECRET = "a-secret_with-dashes"


def key(**changes: Any) -> ApiKey:
    values: dict[str, Any] = {
        "id": "k1",
        "tenant": "acme",
        "scopes": (Scope.INFERENCE,),
        "created_ms": 1_000,
        "changed_ms": 1_000,
        "secrets": (StoredSecret(api_keys.digest_of(SECRET)),),
    }
    return ApiKey(**(values | changes))


def verdict(given: str, now_ms: float = 2_000, **changes: Any) -> Verdict:
    return judge({"k1": key(**changes)}, given, now_ms)[0]


GOOD = api_keys.spelled("k1", SECRET)


@given(KEYS)
def test_a_key_is_read_back_as_it_was(stored: ApiKey) -> None:
    assert ApiKey.unpack(stored.pack()) == stored


@given(st.binary(max_size=200))
def test_other_bytes_are_unreadable(packed: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        ApiKey.unpack(packed)


@pytest.mark.parametrize(
    "changes",
    [
        {0: "UPPER"},
        {2: []},
        {2: ["root"]},
        {3: (1, 2, 3)},
        {4: []},
        {4: [(b"short", None)]},
        {5: "x" * (MAX_NOTE + 1)},
    ],
)
def test_a_record_of_another_shape_is_unreadable(changes: dict[int, Any]) -> None:
    fields = msgpack.unpackb(key().pack())
    for index, value in changes.items():
        fields[index] = value
    with pytest.raises(UnreadableMessage):
        ApiKey.unpack(msgpack.packb(fields))


def test_only_a_digest_is_stored() -> None:
    secret = api_keys.new_secret()
    stored = key(secrets=(StoredSecret(api_keys.digest_of(secret)),)).pack()
    assert secret.encode() not in stored
    assert sha256(secret.encode()).digest() in stored


def test_secrets_have_256_bits_and_ids_have_no_dash() -> None:
    assert len({api_keys.new_secret() for _ in range(100)}) == 100
    assert all(len(api_keys.new_secret()) >= 43 for _ in range(10))
    for _ in range(10):
        api_keys.check_id(api_keys.new_id())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (GOOD, Verdict.OK),
        (GOOD + "x", Verdict.UNKNOWN),
        (GOOD[:-1], Verdict.UNKNOWN),
        ("sk-k2-" + SECRET, Verdict.UNKNOWN),
        ("sk-k1-", Verdict.MALFORMED),
        ("sk-k1", Verdict.MALFORMED),
        ("k1-" + SECRET, Verdict.MALFORMED),
        ("pk-k1-" + SECRET, Verdict.MALFORMED),
        ("", Verdict.MALFORMED),
        ("sk-k1-\ud800", Verdict.UNKNOWN),
        (GOOD + "x" * 300, Verdict.MALFORMED),
    ],
)
def test_only_the_right_secret_of_the_right_id_is_good(given: str, expected: Verdict) -> None:
    assert verdict(given) is expected


def test_expiry_is_checked_when_the_key_is_used() -> None:
    assert verdict(GOOD, 4_999.9, expires_ms=5_000) is Verdict.OK
    assert verdict(GOOD, 5_000, expires_ms=5_000) is Verdict.EXPIRED


def test_only_who_knows_the_secret_is_told_that_a_key_is_revoked_or_expired() -> None:
    assert verdict(GOOD, revoked_ms=1) is Verdict.REVOKED
    assert verdict("sk-k1-guess", revoked_ms=1) is Verdict.UNKNOWN
    assert verdict("sk-k1-guess", expires_ms=1) is Verdict.UNKNOWN


def test_an_unknown_id_costs_a_comparison_too(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    original = api_keys.hmac.compare_digest
    monkeypatch.setattr(api_keys.hmac, "compare_digest", lambda a, b: compared.append(len(b)) or original(a, b))
    judge({}, "sk-nobody-secret", 0)
    judge({"k1": key()}, "sk-k1-wrong", 0)
    assert compared == [32, 32]


def test_a_rotated_key_takes_both_secrets_until_the_grace_is_over() -> None:
    rotated = key().rotated(api_keys.digest_of("new"), 2_000, 500)
    both = {"k1": rotated}
    assert judge(both, "sk-k1-new", 99_999)[0] is Verdict.OK
    assert judge(both, GOOD, 2_499)[0] is Verdict.OK
    assert judge(both, GOOD, 2_500)[0] is Verdict.UNKNOWN
    assert rotated.changed_ms == 2_000


def test_a_second_rotation_does_not_prolong_the_first_ones_grace() -> None:
    twice = key().rotated(api_keys.digest_of("b"), 2_000, 500).rotated(api_keys.digest_of("c"), 2_100, 10_000)
    assert judge({"k1": twice}, GOOD, 2_499)[0] is Verdict.OK
    assert judge({"k1": twice}, GOOD, 2_500)[0] is Verdict.UNKNOWN
    assert judge({"k1": twice}, "sk-k1-b", 12_099)[0] is Verdict.OK


def test_rotation_without_grace_ends_the_old_secrets_at_once() -> None:
    rotated = key().rotated(api_keys.digest_of("new"), 2_000, 0)
    assert rotated.secrets == (StoredSecret(api_keys.digest_of("new")),)


def test_rotations_within_one_grace_are_bounded() -> None:
    rotated = key()
    for number in range(MAX_SECRETS - 1):
        rotated = rotated.rotated(api_keys.digest_of(str(number)), 2_000, 500)
    with pytest.raises(ConfigurationError, match="--grace 0s"):
        rotated.rotated(api_keys.digest_of("more"), 2_000, 500)
    assert len(rotated.rotated(api_keys.digest_of("later"), 3_000, 500).secrets) == 2


@pytest.mark.parametrize("changes", [{"revoked_ms": 1}, {"expires_ms": 1}])
def test_what_is_no_good_cannot_be_rotated(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="create a new one"):
        key(**changes).rotated(bytes(32), 2_000, 0)


def test_a_change_is_later_than_the_last_one_whatever_the_clock_says() -> None:
    revoked = key(changed_ms=9_000).revoked(2_000)
    assert (revoked.changed_ms, revoked.revoked_ms) == (9_001, 2_000)
    assert revoked.revoked(3_000) is revoked


@pytest.mark.parametrize(
    "changes", [{"id": "A"}, {"id": ""}, {"scopes": ()}, {"note": "x" * 257}, {"secrets": ()}]
)
def test_what_does_not_fit_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="key"):
        key(**changes)


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 3)),
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 3)),
)
def test_the_record_changed_last_holds_and_is_written_back(held: dict[str, int], read: dict[str, int]) -> None:
    one, other = ({i: key(id=i, changed_ms=ms) for i, ms in side.items()} for side in (held, read))
    both, newer = merged(one, other)
    assert {i: found.changed_ms for i, found in both.items()} == {
        i: max(held.get(i, 0), read.get(i, 0)) for i in {**held, **read}
    }
    assert {found.id for found in newer} == {i for i, ms in held.items() if ms > read.get(i, 0)}


def test_a_revocation_survives_a_redis_that_forgot_it() -> None:
    before = key()
    both, newer = merged({"k1": before.revoked(2_000)}, {"k1": before})
    assert both["k1"].revoked_ms == 2_000
    assert newer == [both["k1"]]


def test_unreadable_records_are_named_and_the_others_read() -> None:
    other = replace(key(), id="k2")
    found, unreadable = api_keys.unpack_keys({b"k2": other.pack(), b"odd": b"garbage"})
    assert (found, unreadable) == ({"k2": other}, ["odd"])


def test_too_many_records_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MAX_KEYS", 1)
    with pytest.raises(UnreadableMessage, match="2 API keys"):
        api_keys.unpack_keys({b"a": b"", b"b": b""})


def test_a_record_that_is_too_long_is_unreadable() -> None:
    with pytest.raises(UnreadableMessage):
        ApiKey.unpack(bytes(5_000))
