"""Classes that follow the clock: entries of a policy that change a class while a cron expression matches.

An entry is on in every minute that its expression matches, read on the wall clock of its time zone. So an hour
that a change of the clock repeats is in it twice, and one that is left out never comes. Of entries that are on at
the same time, each field comes from the last one that sets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, model_validator

from shared.service_class import Milliseconds, Ratio, ServiceClass, Tier
from shared.settings import Name
from shared.yaml_file import Section, problem

MAX_EXPRESSION = 256
MINUTE = timedelta(minutes=1)
_QUARTER = timedelta(minutes=15)  # zones differ by whole quarters of an hour
_ANY_DAY = datetime(2000, 1, 1)  # expressions are only matched, never iterated
TARGETS = ("tpot", "tpot_ms", "ttft_ms", "tier")


@lru_cache(maxsize=1024)
def _parsed(expression: str) -> CronSim:
    return CronSim(expression, _ANY_DAY)


def _cron(expression: str) -> str:
    if len(expression.split()) != 5:
        raise problem("must have five fields: minute, hour, day of the month, month, day of the week")
    try:
        _parsed(expression)
    except CronSimError as error:
        raise problem(f"not a cron expression that ever matches ({str(error).lower()})") from None
    return expression


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise problem("must be a time zone of the IANA database, such as Europe/Vienna") from None
    return name


Cron = Annotated[str, Field(max_length=MAX_EXPRESSION), AfterValidator(_cron)]
Zone = Annotated[str, Field(max_length=64), AfterValidator(_zone)]


class Schedule(Section):
    """What a class (of one tenant only, where that is named) promises while ``cron`` matches the minute."""

    service_class: Name = Field(alias="class")
    tenant: Name | None = None
    cron: Cron
    timezone: Zone = "UTC"
    tpot: Ratio | None = None
    tpot_ms: Milliseconds | None = None
    ttft_ms: Milliseconds | None = None
    tier: Tier | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Schedule:
        if self.tpot is not None and self.tpot_ms is not None:
            raise problem("an entry has at most one of tpot and tpot_ms", "tpot_ms")
        if not self.changes:
            raise problem("needs at least one of tpot, tpot_ms, ttft_ms, tier")
        return self

    @property
    def changes(self) -> dict[str, float]:
        """The fields of the class that it sets, in the order of TARGETS."""
        return {name: value for name in TARGETS if (value := getattr(self, name)) is not None}

    @property
    def minutes_an_hour(self) -> int:
        """In how many minutes of an hour that it names the entry is on."""
        return len(_parsed(self.cron).minutes)

    def is_for(self, tenant: str | None, service_class: str) -> bool:
        return self.service_class == service_class and self.tenant in (None, tenant)

    def is_on(self, at: datetime) -> bool:
        """Whether the expression matches the minute of this time, which must be aware."""
        local, cron = at.astimezone(ZoneInfo(self.timezone)), _parsed(self.cron)
        return local.minute in cron.minutes and self.names_hour(local)

    def names_hour(self, local: datetime) -> bool:
        """Whether the expression names the hour and the day of a time on its zone's wall clock."""
        cron = _parsed(self.cron)
        return local.hour in cron.hours and local.month in cron.months and cron.match_day(local.date())

    def over(self, promise: ServiceClass) -> ServiceClass:
        """The class as it is while the entry is on. One kind of TPOT target takes the other's place."""
        changes: dict[str, float | None] = dict(self.changes)
        if "tpot" in changes:
            changes["tpot_ms"] = None
        elif "tpot_ms" in changes:
            changes["tpot"] = None
        return promise.model_copy(update=changes)

    def next_change(self, at: datetime, days: int = 366) -> datetime | None:
        """The first minute after this one in which the entry is on if it is off now, or off if it is on; in UTC.

        None when there is none within so many days.
        """
        was, minute = self.is_on(at), at.astimezone(UTC).replace(second=0, microsecond=0) + MINUTE
        end = minute + timedelta(days=days)
        while minute < end:
            if self.is_on(minute) != was:
                return minute
            whole_quarter = minute.minute % 15 == 0 and self._stays(minute, on=was)
            minute += _QUARTER if whole_quarter else MINUTE
        return None

    def _stays(self, quarter: datetime, *, on: bool) -> bool:
        """Whether a whole quarter of an hour is certainly as its first minute."""
        is_hour = self.names_hour(quarter.astimezone(ZoneInfo(self.timezone)))
        return is_hour and self.minutes_an_hour == 60 if on else not is_hour


class Overlap(NamedTuple):
    """Two entries, by index, that set the same fields of the same requests, first of all at this time."""

    earlier: int
    later: int
    fields: list[str]
    at: datetime


def overlaps(schedules: tuple[Schedule, ...], since: datetime, days: int = 366) -> Iterator[Overlap]:
    """Pairs that meet within so many days; the later entry of each wins."""
    for later, second in enumerate(schedules):
        for earlier, first in enumerate(schedules[:later]):
            fields = _both_set(first, second)
            met = _first_meeting(first, second, since, days) if fields else None
            if met is not None:
                yield Overlap(earlier, later, fields, met)


def _both_set(first: Schedule, second: Schedule) -> list[str]:
    """Fields of a request's class that both set; `tpot` and `tpot_ms` are the same promise."""
    same_tenants = None in (first.tenant, second.tenant) or first.tenant == second.tenant
    if first.service_class != second.service_class or not same_tenants:
        return []
    other = {name.removesuffix("_ms") for name in first.changes}
    return [name for name in second.changes if name.removesuffix("_ms") in other]


def _first_meeting(first: Schedule, second: Schedule, since: datetime, days: int) -> datetime | None:
    at = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    zones = [ZoneInfo(one.timezone) for one in (first, second)]
    minutes = [_parsed(one.cron).minutes for one in (first, second)]
    for quarter in range(days * 96):
        start = at + quarter * _QUARTER
        local = [start.astimezone(zone) for zone in zones]
        if not (first.names_hour(local[0]) and second.names_hour(local[1])):
            continue
        for past in range(15):
            if all(one.minute + past in known for one, known in zip(local, minutes, strict=True)):
                return start + past * MINUTE
    return None
