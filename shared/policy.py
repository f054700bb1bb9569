"""What an operator promises to whom: classes and the tenants that may use them. Pure but for `load_policy`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, JsonValue, Tag, model_validator

from shared.rollout import Rollout
from shared.schedules import Schedule
from shared.service_class import DEFAULT_TIER, MAX_MS, MAX_RATIO, Milliseconds, ServiceClass
from shared.settings import Name
from shared.yaml_file import Section, YamlFile, problem

__all__ = [
    "DEFAULT_TIER",
    "MAX_MS",
    "MAX_RATIO",
    "Acceptance",
    "Policy",
    "Schedule",
    "ServiceClass",
    "ServiceTier",
    "Tenant",
    "load_policy",
]

MAX_TOKENS = 1 << 20
MAX_SCHEDULES = 256

_ONLY_NAMES: dict[str, JsonValue] = {"additionalProperties": False}  # that fit the pattern

Count = Annotated[int, Field(ge=1, le=10**12)]
DEFAULT_THRESHOLD = 0.09  # Medusa's
ServiceTier = Literal["default", "flex", "scale", "priority"]


class Typical(Section):
    """Typical acceptance (services/verifier/typical.py): the lower the threshold, the more is accepted."""

    threshold: float = Field(default=DEFAULT_THRESHOLD, gt=0, le=1)


class TypicalOption(Section):
    """`{typical: {threshold: 0.3}}`, an entry of a tenant's `acceptance`."""

    typical: Typical


def _acceptance(value: Any) -> Any:
    """Entries as one kind of mapping; the word alone has the default threshold."""
    if value not in ("exact", "typical") and not isinstance(value, Mapping):
        raise problem("must be exact, typical or {typical: {threshold: ...}}")
    return {"typical": {}} if value == "typical" else value


def _is_word(value: Any) -> str:
    return "[option]" if isinstance(value, (Mapping, TypicalOption)) else "[word]"


Acceptance = Annotated[
    Annotated[Literal["exact"], Tag("[word]")] | Annotated[TypicalOption, Tag("[option]")],
    Discriminator(_is_word),
    BeforeValidator(_acceptance, json_schema_input_type=Literal["exact", "typical"] | TypicalOption),
]


class Tenant(Section):
    """A customer: the classes it may use, its share where requests compete, and its limits (None: no limit).

    `rpm` and `tpm` are requests and tokens per minute, `tpot_ms_min` the fastest target it may ask for.
    """

    classes: tuple[Name, ...] = Field(min_length=1, strict=False)
    default: Name
    weight: float = Field(default=1.0, gt=0, le=1000)
    rpm: Count | None = None
    tpm: Count | None = None
    max_concurrent: int | None = Field(default=None, ge=1, le=65_536)
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    acceptance: tuple[Acceptance, ...] = Field(default=("exact",), min_length=1, max_length=2, strict=False)
    tpot_ms_min: Milliseconds | None = None

    @property
    def typical(self) -> float | None:
        """The threshold of typical acceptance, None where the tenant may not have it."""
        found = [one.typical.threshold for one in self.acceptance if isinstance(one, TypicalOption)]
        return found[0] if found else None

    @model_validator(mode="after")
    def _fits_together(self) -> Tenant:
        for index, name in enumerate(self.classes):
            if name in self.classes[:index]:
                raise problem("is given twice", "classes", index)
        if "exact" not in self.acceptance:
            raise problem("must have exact, which requests get that ask for nothing", "acceptance")
        if len(self.acceptance) == 2 and self.typical is None:
            raise problem("is given twice", "acceptance", 1)
        if self.default not in self.classes:
            raise problem(f"must be one of the tenant's classes: {', '.join(self.classes)}", "default")
        return self


class Policy(Section):
    """Classes and tenants by name, in the order of the file; when classes change, and who gets what is new.

    `service_tiers` says which class a request with OpenAI's `service_tier` is of.
    """

    classes: Mapping[Name, ServiceClass] = Field(min_length=1, json_schema_extra=_ONLY_NAMES)
    tenants: Mapping[Name, Tenant] = Field(min_length=1, json_schema_extra=_ONLY_NAMES)
    service_tiers: Mapping[ServiceTier, Name] = Field(default_factory=dict)
    schedules: tuple[Schedule, ...] = Field(default=(), max_length=MAX_SCHEDULES, strict=False)
    rollout: Rollout | None = None

    def promises(self, tenant: str | None, at: datetime) -> dict[str, ServiceClass]:
        """Every class that a tenant may use, as it is for it at this time; None: all classes, as they are for
        tenants without schedules of their own."""
        names = self.classes if tenant is None else self.tenants[tenant].classes
        return {name: self.promise(tenant, name, at) for name in names}

    def promise(self, tenant: str | None, service_class: str, at: datetime) -> ServiceClass:
        """What a class promises to a tenant at this time, by the schedules that are on."""
        promise = self.classes[service_class]
        for schedule in self.schedules:
            if schedule.is_for(tenant, service_class) and schedule.is_on(at):
                promise = schedule.over(promise)
        return promise

    @model_validator(mode="after")
    def _classes_exist(self) -> Policy:
        for tenant, settings in self.tenants.items():
            for index, name in enumerate(settings.classes):
                self._check_class(name, "tenants", tenant, "classes", index)
        for tier, name in self.service_tiers.items():
            self._check_class(name, "service_tiers", tier)
        for index, schedule in enumerate(self.schedules):
            self._check_class(schedule.service_class, "schedules", index, "class")
        return self

    @model_validator(mode="after")
    def _tenants_exist(self) -> Policy:
        for index, schedule in enumerate(self.schedules):
            if schedule.tenant is not None:
                self._check_tenant(schedule.tenant, "schedules", index, "tenant")
                mine = self.tenants[schedule.tenant].classes
                if schedule.service_class not in mine:
                    words = f"is no class of tenant {schedule.tenant}, which has {', '.join(mine)}"
                    raise problem(words, "schedules", index, "class")
        for index, name in enumerate(self.rollout.tenants if self.rollout else ()):
            self._check_tenant(name, "rollout", "tenants", index)
        return self

    @model_validator(mode="after")
    def _ramp_can_be_judged(self) -> Policy:
        if self.rollout is not None and self.rollout.ramp is not None and not self.judged_classes:
            words = "needs a class with an objective among the classes of its tenants: nothing else moves it"
            raise problem(words, "rollout", "ramp")
        return self

    @property
    def judged_classes(self) -> dict[str, float]:
        """Classes that a ramp is judged by: those of the rollout's tenants with an objective, and that."""
        names = {name for tenant in self._introduced for name in self.tenants[tenant].classes}
        return {
            name: one.objective
            for name, one in self.classes.items()
            if name in names and one.objective is not None
        }

    @property
    def _introduced(self) -> tuple[str, ...]:
        return self.rollout.tenants if self.rollout is not None else ()

    def _check_class(self, name: str, *place: str | int) -> None:
        if name not in self.classes:
            raise problem(f"no such class; there are {', '.join(self.classes)}", *place)

    def _check_tenant(self, name: str, *place: str | int) -> None:
        if name not in self.tenants:
            raise problem(f"no such tenant; there are {', '.join(self.tenants)}", *place)


def load_policy(path: Path) -> Policy:
    """Raises PolicyError naming the file, the line, the field, the value and what is allowed."""
    return YamlFile.read(path).model(Policy)
