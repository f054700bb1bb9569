"""Every render keeps every policy, and every policy notices what breaks it."""

from __future__ import annotations

import pytest

from tests.chart.plants import images as image_plants
from tests.chart.plants import life as life_plants
from tests.chart.plants import metrics as metric_plants
from tests.chart.plants import mounts as mount_plants
from tests.chart.plants import network as network_plants
from tests.chart.plants import pods as pod_plants
from tests.chart.plants import references as reference_plants
from tests.chart.plants import secrets as secret_plants
from tests.chart.plants import settings as setting_plants
from tests.chart.plants import watched as watched_plants
from tests.chart.plants.spoiling import Plant, Plants, Policy
from tests.chart.policies import (
    images,
    life,
    metrics,
    mounts,
    network,
    pods,
    references,
    secrets,
    settings,
    watched,
)
from tests.chart.renders import CHART, Render, renders

MODULES = {
    pods: pod_plants,
    life: life_plants,
    secrets: secret_plants,
    images: image_plants,
    references: reference_plants,
    mounts: mount_plants,
    watched: watched_plants,
    network: network_plants,
    settings: setting_plants,
    metrics: metric_plants,
}
POLICIES: list[Policy] = [policy for module in MODULES for policy in module.POLICIES]
PLANTS: Plants = [pair for plants in MODULES.values() for pair in plants.PLANTS]


def _name(value: object) -> str:
    return value.name if isinstance(value, Render) else getattr(value, "__name__", "planted").strip("<>")


def planted(plant: Plant) -> tuple[Render, Render]:
    """The first render that has what is to be spoiled, as it is and spoiled."""
    for render in renders():
        spoiled = render.copy()
        try:
            plant(spoiled)
        except LookupError:
            continue
        return render, spoiled
    raise LookupError("no render has what this would spoil")


@pytest.mark.parametrize("policy", POLICIES, ids=_name)
@pytest.mark.parametrize("render", renders(), ids=_name)
def test_a_render_keeps_a_policy(render: Render, policy: Policy) -> None:
    assert policy(render) == []


@pytest.mark.parametrize(("policy", "plant"), PLANTS, ids=_name)
def test_what_breaks_a_policy_is_noticed(policy: Policy, plant: Plant) -> None:
    render, spoiled = planted(plant)
    assert set(policy(spoiled)) - set(policy(render))


def test_every_policy_is_seen_to_notice_something() -> None:
    broken = {policy for policy, _ in PLANTS}
    assert [policy.__name__ for policy in POLICIES if policy not in broken] == []


def test_no_template_names_an_image_by_itself() -> None:
    templates = [path for path in sorted((CHART / "templates").rglob("*")) if path.is_file()]
    assert len(templates) > 5
    assert [line for path in templates for line in images.literal_images(path.read_text(encoding="utf-8"))] == []
    assert images.literal_images("image: redis:7\n  image: {{ .Values.x }}\n") == ["image: redis:7"]
