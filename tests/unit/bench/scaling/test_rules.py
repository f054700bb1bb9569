"""The simulation's rules are the chart's (bench/scaling/rules.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench.scaling.rules import VALUES, merged, read_rules, scrape_period_s
from shared.errors import ConfigurationError


def test_the_rules_are_the_charts_values_over_its_defaults() -> None:
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    rules = read_rules("verifier")
    own = values["services"]["verifier"]["autoscaling"]["triggers"]
    assert {name: trigger.target for name, trigger in rules.triggers.items()} == {
        name: trigger["target"] for name, trigger in own.items()
    }
    assert (
        rules.behavior.scaleDown.stabilizationWindowSeconds
        == (values["defaults"]["autoscaling"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"])
    )
    assert scrape_period_s() == float(values["metrics"]["interval"].removesuffix("s"))


def changed(tmp_path: Path, target: object) -> Path:
    """The values with another target for waiting requests."""
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    values["services"]["verifier"]["autoscaling"]["triggers"]["waiting"]["target"] = target
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_another_value_is_another_rule(tmp_path: Path) -> None:
    assert read_rules("verifier", changed(tmp_path, 17)).triggers["waiting"].target == 17.0


def test_a_value_that_is_none_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"services\.verifier\.autoscaling\.triggers\.waiting\.target"):
        read_rules("verifier", changed(tmp_path, "many"))


def test_a_window_is_the_longest_that_the_query_looks_back() -> None:
    assert read_rules("verifier").triggers["attainment"].window_s == 120.0
    assert read_rules("verifier").triggers["waiting"].window_s == 0.0


def test_values_merge_as_helm_merges_them() -> None:
    assert merged({"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}, "d": 2}
