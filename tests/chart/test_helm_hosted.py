"""A drafter in the verifier's pod: what is a container's is its own, what is a pod's is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy import chart
from tests.chart.renders import default_values
from tests.chart.test_helm import needs_helm
from tests.chart.test_helm_values import refusal

pytestmark = needs_helm
OF_CONTAINERS = {
    *("resources", "command", "env", "extraEnvVars", "logLevel", "containerSecurityContext"),
    *("sharedMemory", "tmpSize", "extraVolumes", "extraVolumeMounts"),
    *("probes", "redisPatienceSeconds", "preStopSeconds", "drainSeconds", "marginSeconds"),
    "autoscaling",  # its triggers are in values.yaml; without an engine they do nothing anywhere
}
OF_PODS = sorted(default_values()["defaults"].keys() - OF_CONTAINERS)


@pytest.mark.parametrize("field", OF_PODS)
def test_what_is_of_a_pod_is_refused_for_a_drafter_in_another(field: str, tmp_path: Path) -> None:
    """Also with the value that it has by default: it would be the verifier's in any case."""
    drafter = {"inVerifierPod": True, field: default_values()["defaults"][field]}
    said = refusal(tmp_path, yaml.safe_dump({"services": {"drafter": drafter}}))
    assert f"services.drafter.{field}: is of a pod" in said
    assert f"services.verifier.{field}" in said


def test_what_is_of_a_container_is_taken_for_a_drafter_in_another_pod(tmp_path: Path) -> None:
    fields = {field: default_values()["defaults"][field] for field in OF_CONTAINERS}
    given = {"resources": {}, "env": {"ADASERVE_X": "of drafter"}, "logLevel": "DEBUG", "tmpSize": "7Mi"}
    values = {"services": {"drafter": {"inVerifierPod": True, **fields, **given, "sharedMemory": "3Mi"}}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    text = chart.template("x", "--values", str(tmp_path / "values.yaml"))
    for once in ("of drafter", "value: DEBUG", "sizeLimit: 7Mi", "sizeLimit: 3Mi"):
        assert text.count(once) == 1
