"""What `helm upgrade` makes a cluster do: which pods are replaced, and how many are left."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploy import chart
from tests.chart.api_server import ApiServer
from tests.chart.renders import COMPONENT, Document, documents_in
from tests.chart.test_helm import Release, needs_helm

pytestmark = needs_helm
EVERYTHING = ("--values", str(chart.EXAMPLES / "everything.yaml"))
OWN_TAG = ("--set", "image.tag=")  # the version's
SERVICES = {"gateway", "drafter", "selector", "verifier"}
KEEPERS = {"redis", "jaeger", "collector"}  # what they hold is gone, or away for seconds, when they are replaced


def templates(folder: Path, *values: str) -> dict[str, Document]:
    """Pod templates by component: a change of one replaces its pods."""
    place = ("--kube-version", chart.KUBERNETES, *EVERYTHING)
    found = documents_in(chart.helm("template", "x", str(folder), *place, *values))
    owners = [each for each in found if each["kind"] in ("Deployment", "StatefulSet")]
    return {each["metadata"]["labels"][COMPONENT]: each["spec"]["template"] for each in owners}


def replaced(*values: str, folder: Path = chart.CHART) -> set[str]:
    before, after = templates(chart.CHART, *OWN_TAG), templates(folder, *OWN_TAG, *values)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """The chart as it is, of another version."""
    folder = tmp_path / "chart"
    shutil.copytree(chart.CHART, folder)
    about = folder / "Chart.yaml"
    about.write_text(about.read_text().replace("0.1.0", "0.2.0"))
    return folder


def test_another_version_replaces_the_pods_with_its_images_only(next_release: Path) -> None:
    assert replaced(folder=next_release) == SERVICES
    assert replaced("--set", "image.tag=0.1.0", folder=next_release) == set()


def test_common_labels_leave_redis_and_its_like_alone() -> None:
    assert replaced("--set", "commonLabels.team=another") == SERVICES


@pytest.mark.parametrize("value", ["cell=another", "redis.maxMemory=100mb", "redis.podLabels.a=b"])
def test_what_redis_reads_at_its_start_restarts_it(value: str) -> None:
    assert "redis" in replaced("--set", value)


def test_all_that_keep_something_are_looked_at() -> None:
    assert templates(chart.CHART).keys() == SERVICES | KEEPERS


@pytest.mark.parametrize("engine", ["hpa", "keda"])
@pytest.mark.parametrize("already", [False, True])
def test_autoscaling_and_its_upgrades_cut_no_replicas(engine: str, already: bool, tmp_path: Path) -> None:
    scaled = f"defaults.autoscaling.engine={engine}"
    with ApiServer() as server:
        release = Release(server, tmp_path)
        release.run("install", "--set", scaled if already else "defaults.replicas=3")
        deployments = [each for each in server.objects.values() if each.get("kind") == "Deployment"]
        assert {each["spec"]["replicas"] for each in deployments} == {1 if already else 3}
        for count in (8, 5):  # by the autoscaler, between two upgrades
            for each in server.named("deployments").values():
                each["spec"]["replicas"] = count
            release.run("upgrade", "--set", scaled)
            assert {each["spec"]["replicas"] for each in server.named("deployments").values()} == {count}
        release.run("upgrade", "--set", "defaults.replicas=4")
        assert {each["spec"]["replicas"] for each in server.named("deployments").values()} == {4}
