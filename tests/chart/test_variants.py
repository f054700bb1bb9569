"""Values that no example has together: rendered by helm, they keep every policy and are valid as well."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy import chart
from tests.chart.renders import LOADER, Document, Render, default_values, documents_in, merged
from tests.chart.strict import complaints, is_custom, versions
from tests.chart.test_policies import POLICIES

pytestmark = pytest.mark.skipif(
    chart.helm_program() is None, reason="there is no helm here: `make tools` fetches one"
)
BASE = "image: {registry: registry.example.com/adaserve}\n"
VARIANTS = {
    "hosted-drafter-scaled-and-forgetful": """
        metrics: {podMonitor: {enabled: true}}
        defaults: {autoscaling: {engine: hpa}}
        services: {drafter: {inVerifierPod: true, autoscaling: {engine: none}}}
        redis: {persistence: {enabled: false}}
    """,
    "external-redis-without-tls-and-password": """
        redis: {enabled: false}
        externalRedis: {url: "redis://redis.example.com:6379/0"}
        tracing: {endpoint: "https://otel.example.com", protocol: grpc}
    """,
    "collector-that-sends-elsewhere": """
        tracing: {collector: {enabled: true, exportTo: "tempo.example.com:4317"}}
        policy: {existingConfigMap: classes}
    """,
    "jaeger-alone-and-other-images": """
        global: {imageRegistry: mirror.example.com}
        image: {digests: {gateway: "sha256:%s"}}
        tracing: {jaeger: {enabled: true}}
    """
    % ("0" * 64),
    "models-from-a-hub-and-a-claim": """
        models:
          target: hf://example/target@v2
          draft: pvc://models/draft
          cache: {existingClaim: models}
        services: {verifier: {replicas: 3, pdb: {maxUnavailable: null, minAvailable: 2}}}
    """,
    "longer-drains": """
        services:
          gateway: {preStopSeconds: 20, drainSeconds: 600, replicas: 2}
          verifier: {preStopSeconds: 10, drainSeconds: 3600, marginSeconds: 30}
    """,
}


def rendered(name: str, folder: Path) -> Render:
    """A release of the variant's name."""
    lines = VARIANTS[name].splitlines()
    values: Document = yaml.load(BASE, Loader=LOADER)
    values |= yaml.load("\n".join(line[8:] for line in lines), Loader=LOADER)
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return Render(
        name, documents_in(chart.template(name, "--values", str(file))), merged(default_values(), values)
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_keeps_every_policy_and_is_valid(name: str, tmp_path: Path) -> None:
    render = rendered(name, tmp_path)
    found = [said for policy in POLICIES for said in policy(render)]
    plain = [document for document in render.documents if not is_custom(document)]
    for version in (versions()[0], versions()[-1]):
        found += [said for document in plain for said in complaints(document, version)]
    assert found == []
