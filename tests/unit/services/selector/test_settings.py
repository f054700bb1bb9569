"""The selector's environment (services/selector/settings.py)."""

from __future__ import annotations

import pytest

from services.selector.control import PolicySettings
from services.selector.settings import SelectorSettings
from shared.errors import ConfigurationError
from shared.settings import read


def test_defaults_are_those_of_the_policy() -> None:
    settings = read(SelectorSettings)
    assert settings.policy_settings == PolicySettings()
    assert settings.http_port == 9102


def test_environment_reaches_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADASERVE_BUDGET", "512")
    monkeypatch.setenv("ADASERVE_MIN_DEPTH", "4")
    monkeypatch.setenv("ADASERVE_MAX_DEPTH", "4")
    monkeypatch.setenv("ADASERVE_SLO_NODES_FACTOR", "1.5")
    expected = PolicySettings(budget=512, min_depth=4, max_depth=4, slo_nodes_factor=1.5)
    assert read(SelectorSettings).policy_settings == expected


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        ("MIN_DEPTH", "0", "1"),
        ("MAX_DEPTH", "65", "64"),
        ("MAX_WIDTH", "0", "1"),
        ("DEPTH_OFFSET", "-1", "0"),
        ("WIDTH_OFFSET", "-1", "0"),
        ("DRAFT_TOKENS_PER_STEP", "0", "1"),
        ("BUDGET", "0", "1"),
        ("BUDGET_RATIO", "0.5", "1"),
        ("BUDGET_RATIO", "nan", "1"),
        ("SLO_NODES_FACTOR", "0", "0"),
        ("PREFILL_FACTOR", "0", "0"),
        ("LEAST_WEIGHT", "0", "0"),
        ("SLACK_TOKENS", "0", "0"),
        ("PREFILL_SHARE", "0", "0"),
        ("POLICY", "fastest", "paper"),
        ("MAX_WIDTH", "three", "integer"),
    ],
)
def test_value_out_of_bounds_is_refused_by_name_and_limit(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, limit: str
) -> None:
    monkeypatch.setenv(f"ADASERVE_{name}", value)
    with pytest.raises(ConfigurationError, match=rf"ADASERVE_{name}='{value}': .*{limit}"):
        read(SelectorSettings)


def test_depth_limits_that_cross_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADASERVE_MIN_DEPTH", "5")
    monkeypatch.setenv("ADASERVE_MAX_DEPTH", "4")
    with pytest.raises(
        ConfigurationError, match=r"ADASERVE_MAX_DEPTH='4': must be at least min_depth, which is 5"
    ):
        read(SelectorSettings)
