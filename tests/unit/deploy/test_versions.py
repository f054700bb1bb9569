"""The version stands in three places, and says the same in all (docs/releasing.md)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy" / "k8s" / "Chart.yaml"
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
RELEASED = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", CHANGELOG, re.MULTILINE)


def test_the_changelog_has_a_heading_for_what_is_to_come_and_one_for_each_release() -> None:
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert len(headings) == 1 + len(RELEASED), "a release's heading is `## [1.2.3] - 2027-01-31`"
    assert (
        sorted(RELEASED, key=lambda version: [int(part) for part in version.split(".")], reverse=True) == RELEASED
    )


def test_the_version_is_the_last_release_or_the_one_to_come() -> None:
    assert VERSION in ({*RELEASED[:1]} | set(re.findall(r"^To become (\d+\.\d+\.\d+)", CHANGELOG, re.MULTILINE)))


def test_the_charts_app_is_this_version() -> None:
    chart = yaml.safe_load(CHART.read_text(encoding="utf-8"))
    assert str(chart["appVersion"]) == VERSION
    assert str(chart["version"]).partition("-")[0].split(".") >= VERSION.split(".")


def test_the_release_before_is_named_and_recorded() -> None:
    lines = (ROOT / "deploy" / "previous-release").read_text(encoding="utf-8").splitlines()
    (named,) = (line for line in lines if line and not line.startswith("#"))
    assert re.fullmatch(r"v\d+\.\d+\.\d+|[0-9a-f]{7,40}", named)
    if named.startswith("v") or len(RELEASED) > 1:  # before the second release it may be any commit
        assert named in {f"v{version}" for version in RELEASED}
    assert (ROOT / "tests" / "upgrade" / "previous" / "release").read_text().strip() == named


@pytest.mark.parametrize(
    "place", ["pyproject.toml", "deploy/k8s/Chart.yaml", "CHANGELOG.md", "deploy/previous-release"]
)
def test_the_recipe_names_every_place(place: str) -> None:
    assert f"`{place}`" in (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
