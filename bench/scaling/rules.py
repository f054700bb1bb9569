"""The scaling rules of the Helm chart, read from its values: what the simulation runs is what a cluster gets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ConfigurationError

VALUES = Path(__file__).resolve().parents[2] / "deploy/k8s/values.yaml"
_WINDOW = re.compile(r"\[(\d+)([sm])\]")
_CEILING = re.compile(r"clamp_max\(.*, (\d+(?:\.\d+)?) \* <<\.Target>>\)", re.DOTALL)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Policy(_Strict):
    """At most so many replicas, or percent of them, in a period."""

    type: Literal["Pods", "Percent"]
    value: int = Field(gt=0)
    periodSeconds: int = Field(gt=0, le=1800)  # noqa: N815 - Kubernetes' own names


class Direction(_Strict):
    """How fast one way."""

    stabilizationWindowSeconds: int = Field(default=0, ge=0, le=3600)  # noqa: N815
    selectPolicy: Literal["Max", "Min"] = "Max"  # noqa: N815
    policies: list[Policy] = Field(min_length=1)


class Behavior(_Strict):
    """Both ways."""

    scaleUp: Direction  # noqa: N815
    scaleDown: Direction  # noqa: N815


class Trigger(_Strict):
    """One metric: AverageValue is shared out over the replicas, Value is held at its target."""

    enabled: bool = True
    type: Literal["AverageValue", "Value", "Utilization"]
    target: float = Field(gt=0)
    query: str = ""

    @property
    def window_s(self) -> float:
        """The longest range that the query looks back over; 0 where it asks for the value now."""
        spans = (int(number) * (60 if unit == "m" else 1) for number, unit in _WINDOW.findall(self.query))
        return float(max(spans, default=0))

    @property
    def ceiling(self) -> float:
        """The most that the query says."""
        found = _CEILING.search(self.query)
        return float(found[1]) * self.target if found else math.inf


class Rules(BaseModel):
    """`autoscaling` of one service; what only KEDA or the templates need is left alone."""

    model_config = ConfigDict(frozen=True)

    min: int = Field(ge=1)
    max: int = Field(ge=1)
    behavior: Behavior
    triggers: Mapping[str, Trigger]

    @property
    def active(self) -> Mapping[str, Trigger]:
        """The triggers that are on."""
        return {name: trigger for name, trigger in self.triggers.items() if trigger.enabled}


def read_rules(service: str, path: Path = VALUES) -> Rules:
    """A service's rules over the defaults of all. Raises ConfigurationError with file, field and what is wrong."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        own = values["services"][service]["autoscaling"]
        return Rules.model_validate(merged(values["defaults"]["autoscaling"], own))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ConfigurationError(f"{path}: services.{service}.autoscaling.{field}: {first['msg']}") from None
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path}: services.{service}.autoscaling cannot be read: {error}") from None


def scrape_period_s(path: Path = VALUES) -> float:
    """How often the chart lets Prometheus look."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return float(str(values["metrics"]["interval"]).removesuffix("s"))


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm merges values: maps by key, all else replaced."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
