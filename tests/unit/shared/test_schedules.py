"""Schedules on the wall clocks of their zones, and what a valid policy file warns of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from shared.policy import Policy
from shared.policy_check import warnings
from shared.rollout import Arm, arm_of
from shared.schedules import Schedule
from shared.service_class import ServiceClass
from shared.yaml_file import YamlFile

VIENNA = "Europe/Vienna"


def schedule(cron: str, timezone: str = "UTC", **fields: Any) -> Schedule:
    return Schedule.model_validate({"class": "chat", "cron": cron, "timezone": timezone, **({"tier": 1} | fields)})


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "timezone", "at", "is_on"),
    [
        ("* 9-17 * * 1-5", "UTC", "2026-11-27 09:00", True),  # a Friday
        ("* 9-17 * * 1-5", "UTC", "2026-11-27 17:59:59", True),
        ("* 9-17 * * 1-5", "UTC", "2026-11-27 18:00", False),
        ("* 9-17 * * 1-5", "UTC", "2026-11-28 10:00", False),
        ("0 9-18 * * 1-5", "UTC", "2026-11-27 10:00:59", True),
        ("0 9-18 * * 1-5", "UTC", "2026-11-27 10:01", False),
        ("* 9 * * *", VIENNA, "2026-07-01 07:30", True),  # summer time
        ("* 9 * * *", VIENNA, "2026-12-01 07:30", False),
        ("* 9 * * *", VIENNA, "2026-12-01 08:30", True),
        ("* 2 * * *", VIENNA, "2026-10-25 00:30", True),  # 02:30 for the first time
        ("* 2 * * *", VIENNA, "2026-10-25 01:30", True),  # and for the second
        ("* 2 * * *", VIENNA, "2026-10-25 02:30", False),
        ("* 2 * * *", VIENNA, "2026-03-29 00:59", False),  # 01:59, and then it is 03:00
        ("* 2 * * *", VIENNA, "2026-03-29 01:00", False),
        ("* 3 * * *", VIENNA, "2026-03-29 01:00", True),
        ("* * L * *", "UTC", "2026-02-28 12:00", True),
        ("* 6 * * *", "Asia/Kathmandu", "2026-01-01 00:15", True),  # a quarter of an hour off
        ("* * 1 * 1", "UTC", "2026-11-30 12:00", True),  # day of the month or of the week, as cron has it
    ],
)
def test_an_entry_is_on_in_the_minutes_of_its_wall_clock(cron: str, timezone: str, at: str, is_on: bool) -> None:
    assert schedule(cron, timezone).is_on(utc(at)) is is_on


FIELDS = st.tuples(
    st.sampled_from(["*", "0", "*/7", "30-59"]),
    st.sampled_from(["*", "2", "9-17", "22,23"]),
    st.sampled_from(["*", "1", "L", "15-20"]),
    st.sampled_from(["*", "3", "10-12"]),
    st.sampled_from(["*", "1-5", "0", "5L"]),
).map(" ".join)
TIMES = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))


@given(cron=FIELDS, at=TIMES, zone=st.sampled_from(["UTC", VIENNA, "America/New_York", "Asia/Kathmandu"]))
def test_it_is_on_where_the_librarys_next_minute_is_that_one(cron: str, at: datetime, zone: str) -> None:
    minute = at.astimezone(ZoneInfo(zone)).replace(second=0, microsecond=0, tzinfo=None, fold=0)
    following = next(CronSim(cron, minute - timedelta(minutes=1)))
    assert schedule(cron, zone).is_on(at) is (following == minute)


@given(cron=FIELDS, at=TIMES)
def test_nothing_changes_before_the_next_change(cron: str, at: datetime) -> None:
    one = schedule(cron, VIENNA)
    found = one.next_change(at, days=3)
    minutes = [at + timedelta(minutes=m) for m in range(3 * 24 * 60)]
    first = next((minute for minute in minutes if one.is_on(minute) != one.is_on(at)), None)
    if found is None:
        assert first is None
    elif first is not None:
        assert found == first.replace(second=0, microsecond=0)


def test_one_that_is_always_on_never_changes() -> None:
    assert schedule("* * * * *").next_change(utc("2026-01-01 00:00")) is None


def test_a_target_takes_the_others_place() -> None:
    promised = ServiceClass(tpot="1.5x", ttft_ms=500.0, objective=0.9)
    changed = schedule("* * * * *", tpot_ms=40).over(promised)
    assert (changed.tpot, changed.tpot_ms, changed.ttft_ms, changed.tier) == (None, 40.0, 500.0, 1)
    back = schedule("* * * * *", tpot="2x", ttft_ms=700, tier=None).over(changed)
    assert (back.tpot, back.tpot_ms, back.ttft_ms, back.tier, back.objective) == (2.0, None, 700.0, 1, 0.9)


CLASSES = """\
classes:
  chat: {tpot_ms: 50, tier: 1}
  spare: {tier: 3}
tenants:
  acme: {classes: [chat], default: chat}
  globex: {classes: [chat], default: chat}
schedules:
"""


def told(folder: Path, text: str) -> list[str]:
    path = folder / "policy.yaml"
    path.write_text(text)
    file = YamlFile.read(path)
    return warnings(file, file.model(Policy), utc("2026-01-01 00:00"))


def test_the_last_entry_that_is_on_wins_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    entries = [
        '  - {class: chat, cron: "* 8-11 * * *", tpot_ms: 40, tier: 0}\n',
        '  - {class: chat, tenant: acme, cron: "* 10-12 * * *", tpot: 1.1x}\n',
        '  - {class: chat, tenant: globex, cron: "* 11 * * *", ttft_ms: 300}\n',
    ]
    path.write_text(CLASSES + "".join(entries))
    policy = YamlFile.read(path).model(Policy)

    def promise(tenant: str, hour: int) -> tuple[float | None, float | None, float | None, int]:
        found = policy.promise(tenant, "chat", utc(f"2026-01-01 {hour:02}:30"))
        return found.tpot, found.tpot_ms, found.ttft_ms, found.tier

    assert promise("acme", 7) == (None, 50.0, None, 1)
    assert promise("acme", 8) == (None, 40.0, None, 0)
    assert promise("acme", 10) == (1.1, None, None, 0)
    assert promise("acme", 12) == (1.1, None, None, 1)
    assert promise("globex", 10) == (None, 40.0, None, 0)
    assert promise("globex", 11) == (None, 40.0, 300.0, 0)
    overlap = [line for line in told(tmp_path, path.read_text()) if "same time" in line]
    assert overlap == [
        "line 9: schedules.1: sets tpot at the same time as schedules.0, first on 2026-01-01 at 10:00 UTC; "
        "the later entry wins"
    ]


@pytest.mark.parametrize(
    ("first", "second", "at"),
    [
        (
            'cron: "* 9 * * *", timezone: Europe/Vienna, tier: 0',
            'cron: "* 8 * * *", tier: 3',
            "2026-01-01 at 08:00",
        ),
        (
            'cron: "* 9 * * *", timezone: Europe/Vienna, tier: 0',
            'cron: "* 7 * * *", tier: 3',
            "2026-03-29 at 07:00",
        ),
        ('cron: "* 9 * * *", tier: 0', 'cron: "* 10 * * *", tier: 3', None),
        ('cron: "0-29 9 * * *", tier: 0', 'cron: "30-59 9 * * *", tier: 3', None),
        ('cron: "* * * * *", tier: 0', 'cron: "* 1-5 * * *", tpot_ms: 40', None),
        ('cron: "* * * * *", tenant: acme, tier: 0', 'cron: "* * * * *", tenant: globex, tier: 3', None),
        ('cron: "10-50 * 31 12 *", tier: 0', 'cron: "25,50 23 * * *", tier: 3', "2026-12-31 at 23:25"),
    ],
)
def test_entries_that_meet_are_told_with_the_first_time(
    tmp_path: Path, first: str, second: str, at: str | None
) -> None:
    found = told(tmp_path, CLASSES + f"  - {{class: chat, {first}}}\n  - {{class: chat, {second}}}\n")
    assert [line.partition("first on ")[2][:19] for line in found if "same time" in line] == ([at] if at else [])


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("schedules:\n", 'schedules:\n  - {class: chat, cron: "0 9-18 * * 1-5", tier: 0}\n',
         "line 8: schedules.0.cron: is on for a single minute of each hour that it names; '* 9-18 * * 1-5' is on"),
        ("schedules:\n", 'schedules:\n  - {class: chat, cron: "* 9 * * *", tpot_ms: 50}\n',
         "line 8: schedules.0: says what class chat promises anyway"),
        ("schedules:\n", 'schedules:\n  - {class: chat, cron: "* 9 * * *", tpot_ms: 20}\n',
         "line 5: tenants.acme.tpot_ms_min: 30 keeps this tenant from what class chat promises"),
        ("schedules:\n", "", "line 3: classes.spare: is a class of no tenant"),
        ("schedules:\n",
         'rollout: {share: 0.5, tenants: [acme], otherwise: {upstream: "http://h/v1", api_key_env: K}}',
         "line 7: rollout.otherwise.upstream: sends the key of api_key_env unencrypted"),
        ("schedules:\n", "rollout: {tenants: [acme], ramp: [0.1, 0.5]}",
         "line 7: rollout.ramp: ends at 0.5; the rest is never served with speculation"),
        ("[chat], default: chat}\nschedules:\n",
         "[spare], default: spare}\nrollout: {share: 1, tenants: [globex]}",
         "line 7: rollout.tenants: tenant globex has no class with a target: neither arm can miss one"),
    ],
)  # fmt: skip
def test_what_may_not_be_meant_is_told_with_its_line(tmp_path: Path, before: str, after: str, words: str) -> None:
    text = CLASSES.replace("tier: 1", "tier: 1, objective: 0.9").replace(
        "acme: {classes", "acme: {tpot_ms_min: 30, classes"
    )
    assert before in text
    found = told(tmp_path, text.replace(before, after))
    assert any(line.startswith(words) for line in found), found


def test_a_larger_share_only_adds_to_those_under_treatment() -> None:
    treated = [
        {n for n in range(4000) if arm_of("acme", f"user-{n}", share) is Arm.TREATMENT}
        for share in (0.0, 0.1, 0.25, 0.5, 1.0)
    ]
    assert [
        abs(len(one) / 4000 - share) < 0.03 for one, share in zip(treated, (0, 0.1, 0.25, 0.5, 1), strict=True)
    ]
    assert all(smaller < larger for smaller, larger in pairwise(treated))
    assert (len(treated[0]), len(treated[-1])) == (0, 4000)
    assert arm_of("globex", "user-1", 0.5) == arm_of("globex", "user-1", 0.5)
