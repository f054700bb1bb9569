"""Whole rounds and draft-ahead exclude each other, and nobody is left to guess which it is."""

from __future__ import annotations

import os

import pytest

from services.drafter.settings import DrafterSettings
from shared.errors import ConfigurationError
from shared.settings import read


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ADASERVE_", "REDIS_URL")):
            monkeypatch.delenv(name)


def settings_of(monkeypatch: pytest.MonkeyPatch, **values: str) -> DrafterSettings:
    for name, value in {"DRAFT": "x", **values}.items():
        monkeypatch.setenv(f"ADASERVE_{name}", value)
    return read(DrafterSettings)


@pytest.mark.parametrize(
    ("device", "rounds", "ahead", "expected"),
    [
        ("cpu", "auto", "auto", (False, "auto")),
        ("cpu", "auto", "on", (False, "on")),
        ("cpu", "on", "auto", (True, "off")),
        ("cuda", "auto", "auto", (True, "off")),
        ("cuda:1", "auto", "off", (True, "off")),
        ("cuda", "auto", "on", (False, "on")),
        ("cuda", "off", "auto", (False, "auto")),
    ],
)
def test_one_gives_way_to_the_other(
    monkeypatch: pytest.MonkeyPatch, device: str, rounds: str, ahead: str, expected: tuple[bool, str]
) -> None:
    settings = settings_of(monkeypatch, DEVICE=device, WHOLE_ROUNDS=rounds, DRAFT_AHEAD=ahead)
    assert (settings.has_whole_rounds, settings.ahead_mode) == expected


def test_asking_for_both_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = r"ADASERVE_WHOLE_ROUNDS='on'.*cannot be on with ADASERVE_DRAFT_AHEAD"
    with pytest.raises(ConfigurationError, match=expected):
        settings_of(monkeypatch, WHOLE_ROUNDS="on", DRAFT_AHEAD="on")
