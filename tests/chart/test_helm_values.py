"""Values that are wrong: each is refused, by the name of its field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy import chart
from shared.errors import ConfigurationError
from tests.chart.renders import default_values, merged
from tests.chart.test_helm import needs_helm

SCHEMA = json.loads((chart.CHART / "values.schema.json").read_text())

# A file of values, and what must be in the message: the field, and what is allowed. How a place is written differs
# between versions of helm (`a.b` or `/a/b`), so each part is looked for.
MISTAKES = [
    # a name that is not there, at every depth
    ("replicas: 2", ["replicas", "not allowed"]),
    ("services: {gateway: {replcas: 2}}", ["services.gateway", "replcas", "not allowed"]),
    ("services: {verifer: {}}", ["services", "verifer", "not allowed"]),
    ("services: {verifier: {tensorParallel: 2}}", ["services.verifier", "tensorParallel", "not allowed"]),
    ("services: {verifier: {engine: {gpu: 1}}}", ["services.verifier.engine", "gpu", "not allowed"]),
    ("defaults: {probes: {readiness: {path: /x}}}", ["defaults.probes.readiness", "path", "not allowed"]),
    ("redis: {password: secret}", ["redis", "password", "not allowed"]),
    ("externalRedis: {tls: {ca: x}}", ["externalRedis.tls", "ca", "not allowed"]),
    # a part of the defaults taken away
    ("redis: null", ["redis", "required"]),
    ("services: {drafter: null}", ["services", "drafter", "required"]),
    # a value of another kind, or out of bounds
    ("services: {gateway: {replicas: two}}", ["services.gateway.replicas", "integer"]),
    ("services: {gateway: {replicas: -1}}", ["services.gateway.replicas", "0"]),
    ("services: {gateway: {drainSeconds: 7200}}", ["services.gateway.drainSeconds", "3600"]),
    ("services: {verifier: {engine: {tensorParallel: 0}}}", ["services.verifier.engine.tensorParallel", "1"]),
    ("services: {verifier: {engine: {dtype: int8}}}", ["services.verifier.engine.dtype", "float32", "bfloat16"]),
    ("services: {verifier: {engine: {device: gpu}}}", ["services.verifier.engine.device", "cuda"]),
    ("services: {gateway: {resources: {limits: {memory: 3 GB}}}}", ["services.gateway.resources.limits.memory"]),
    ("services: {gateway: {service: {port: 70000}}}", ["services.gateway.service.port", "65535"]),
    ("defaults: {pdb: {maxUnavailable: most}}", ["defaults.pdb.maxUnavailable"]),
    ("defaults: {autoscaling: {engine: vpa}}", ["defaults.autoscaling.engine", "keda"]),
    ("services: {verifier: {autoscaling: {min: 0}}}", ["services.verifier.autoscaling.min", "1"]),
    (
        "services: {verifier: {autoscaling: {redisStreams: [{stream: s, count: streamLength, target: 4.5}]}}}",
        ["services.verifier.autoscaling.redisStreams", "target", "integer"],
    ),
    ("cell: blue/green", ["cell"]),
    ("image: {registry: 'https://registry.example.com'}", ["image.registry"]),
    ("image: {registry: registry.example.com/}", ["image.registry"]),
    ("global: {imageRegistry: 'oci://mirror'}", ["global.imageRegistry"]),
    ("redis: {image: {registry: ''}}", ["redis.image.registry"]),
    ("image: {digests: {gateway: latest}}", ["image.digests.gateway", "sha256"]),
    ("image: {pullPolicy: Sometimes}", ["image.pullPolicy", "IfNotPresent"]),
    ("tracing: {protocol: thrift}", ["tracing.protocol", "grpc"]),
    ("tracing: {endpoint: 'collector:4317'}", ["tracing.endpoint", "https?://"]),
    ("metrics: {interval: 5m}", ["metrics.interval"]),
    ("models: {cache: {accessModes: [Shared]}}", ["models.cache.accessModes", "ReadWriteMany"]),
    ("policy: {inline: {classes: {}}}", ["policy.inline", "string"]),
    ("keys: {existingSecret: My Keys}", ["keys.existingSecret"]),
]

# The same about two values, or where a pattern would say less: by the templates.
CONTRADICTIONS = [
    ("models: {target: meta/llama}", ["models.target", "meta/llama", "hf://org/name@revision"]),
    ("models: {draft: 'hf://llama'}", ["models.draft", "hf://llama", "pvc://claim/path"]),
    ("models: {target: 'pvc://models/../x'}", ["models.target", "pvc://models/../x", ".."]),
    ("models: {target: 'image:///opt/..'}", ["models.target", ".."]),
    ("models: {draft: 'hf://org/name@..'}", ["models.draft", ".."]),
    ("redis: {enabled: false}", ["externalRedis.url", "is required"]),
    ("externalRedis: {url: 'redis://h:6379/0'}", ["externalRedis.url", "redis.enabled"]),
    (
        "{redis: {enabled: false}, externalRedis: {url: 'h:6379'}}",
        ["externalRedis.url", "h:6379", "rediss://host"],
    ),
    (
        "{redis: {enabled: false}, externalRedis: {url: 'redis://h', tls: {caSecret: ca}}}",
        ["externalRedis.tls.caSecret", "rediss://"],
    ),
    ("redis: {maxMemory: 2gb}", ["redis.maxMemory", "2gb", "redis.resources.limits.memory", "1Gi"]),
    ("redis: {maxMemory: 1537mb, resources: {limits: {memory: 1.5Gi}}}", ["redis.maxMemory", "1537mb", "1.5Gi"]),
    ("policy: {inline: text, existingConfigMap: mine}", ["policy.inline", "policy.existingConfigMap"]),
    ("httpRoute: {enabled: true}", ["httpRoute.parentRefs"]),
    ("ingress: {enabled: true, tlsSecret: t}", ["ingress.hosts"]),
    ("ingress: {enabled: true, paths: [/v1, /]}", ["ingress.paths: / ", "publishAdmin"]),
    ("ingress: {enabled: true, paths: [/v10]}", ["ingress.paths: /v10", "publishAdmin"]),
    (
        "httpRoute: {enabled: true, parentRefs: [{name: g}], matches: [{headers: [{name: a, value: b}]}]}",
        ["httpRoute.matches: / ", "publishAdmin"],
    ),
    ("services: {gateway: {env: {ADASERVE_ADMIN_KEY: secret}}}", ["services.gateway.env.ADASERVE_ADMIN_KEY"]),
    ("services: {drafter: {extraVolumes: [{name: tmp-drafter}]}}", ["services.drafter.extraVolumes: tmp-drafter"]),
    ("defaults: {redisPatienceSeconds: 300}", ["redisPatienceSeconds: 300", "300 s of probes.startup"]),
    (
        """services: {verifier: {autoscaling: {engine: keda, redisStreams: [
            {stream: s, count: streamLength, target: 4, consumerGroup: g}]}}}""",
        ["services.verifier.autoscaling.redisStreams", "must have no consumerGroup"],
    ),
    (
        """services: {verifier: {autoscaling: {engine: keda, redisStreams: [
            {stream: s, count: streamLength, target: 4}, {stream: s, count: streamLength, target: 5}]}}}""",
        ["services.verifier.autoscaling.redisStreams: streamLength of s is there twice"],
    ),
    ("tracing: {endpoint: 'http://c:4318', jaeger: {enabled: true}}", ["tracing.endpoint", "tracing.jaeger"]),
    ("tracing: {collector: {enabled: true}}", ["tracing.collector.exportTo"]),
    ("services: {gateway: {engine: {device: cpu}}}", ["services.gateway.engine", "services.drafter"]),
    ("services: {selector: {inVerifierPod: true}}", ["services.selector.inVerifierPod", "services.drafter"]),
    ("defaults: {podDeletionCost: {enabled: true}}", ["defaults.podDeletionCost", "services.verifier"]),
    ("services: {verifier: {engine: {device: cuda}}}", ["services.verifier.engine.device", "nvidia.com/gpu"]),
    (
        """services: {drafter: {engine: {device: cuda, kvMemoryMb: 256},
          resources: {limits: {memory: 8Gi, nvidia.com/gpu: 1}}}}""",
        ["services.drafter.engine.kvMemoryMb", "256", "cuda", "leave it empty"],
    ),
    ("services: {verifier: {engine: {gpuMemoryShare: 1.2}}}", ["gpuMemoryShare"]),
    (
        """services: {drafter: {inVerifierPod: true, engine: {device: cuda, gpuMemoryShare: 0.2},
            resources: {limits: {memory: 8Gi, nvidia.com/gpu: 1}}},
          verifier: {engine: {device: cuda}, resources: {limits: {memory: 8Gi, nvidia.com/gpu: 1}}}}""",
        ["services.drafter.engine.gpuMemoryShare", "0.2 and the verifier's 0.9", "share a GPU"],
    ),
    (
        """services: {verifier: {engine: {device: cuda, kvMemoryMb: 8192},
          resources: {limits: {nvidia.com/gpu: 1}}}}""",
        ["services.verifier.resources.limits.memory", "3Gi", "cuda"],
    ),
    (
        """services: {drafter: {engine: {device: cuda, kvMemoryMb: 8192},
          resources: {limits: {nvidia.com/gpu: 1}}}}""",
        ["services.drafter.resources.limits.memory", "2Gi", "cuda"],
    ),
    ("services: {drafter: {engine: {tensorParallel: 2}}}", ["services.drafter.engine.tensorParallel", "verifier"]),
    (
        """services: {verifier: {engine: {device: 'cuda:1', kvMemoryMb: 8192, tensorParallel: 2},
          sharedMemory: 8Gi, resources: {limits: {memory: 8Gi, nvidia.com/gpu: 2}}}}""",
        ["services.verifier.engine.device", "cuda:1", "tensorParallel is 2"],
    ),
    (
        """services: {verifier: {engine: {device: cuda, kvMemoryMb: 8192, tensorParallel: 4},
          sharedMemory: 8Gi, resources: {limits: {memory: 8Gi, nvidia.com/gpu: 2}}}}""",
        ["services.verifier.engine.tensorParallel", "4 ranks", "gives 2", "nvidia.com/gpu: 4"],
    ),
    (
        """services: {verifier: {engine: {device: cuda, kvMemoryMb: 8192, tensorParallel: 2},
          resources: {limits: {memory: 8Gi, nvidia.com/gpu: 2}}}}""",
        ["services.verifier.sharedMemory", "is required", "/dev/shm"],
    ),
    (
        "services: {verifier: {engine: {kvMemoryMb: 1600, tensorParallel: 2}}}",
        ["services.verifier.engine.kvMemoryMb", "1600, for each of 2 ranks", "3Gi"],
    ),
    (
        "services: {verifier: {engine: {kvMemoryMb: 3072}}}",
        ["services.verifier.engine.kvMemoryMb", "3072", "services.verifier.resources.limits.memory", "3Gi"],
    ),
    (
        "services: {drafter: {engine: {kvMemoryMb: 1600}, resources: {limits: {memory: 1.5Gi}}}}",
        ["services.drafter.engine.kvMemoryMb", "1600", "1.5Gi"],
    ),
    (
        "services: {verifier: {engine: {kvMemoryMb: 4096}, resources: {limits: {memory: 4294967296}}}}",
        ["services.verifier.engine.kvMemoryMb", "4096", "4294967296"],
    ),
    ("services: {gateway: {service: {type: LoadBalancer}}}", ["services.gateway.service.type", "publishAdmin"]),
    ("services: {gateway: {service: {type: NodePort}}}", ["services.gateway.service.type", "NodePort", "/admin"]),
    ("services: {gateway: {pdb: {minAvailable: 1}}}", ["services.gateway.pdb.minAvailable", "maxUnavailable"]),
    ("services: {gateway: {strategy: {type: Recreate}}}", ["services.gateway.strategy.rollingUpdate"]),
    ("services: {gateway: {env: {ADASERVE_CELL: x}}}", ["services.gateway.env.ADASERVE_CELL"]),
    ("services: {drafter: {env: {OMP_NUM_THREADS: 4}}}", ["services.drafter.env.OMP_NUM_THREADS"]),
    ("services: {verifier: {extraEnvVars: [{name: HOME}]}}", ["services.verifier.extraEnvVars", "HOME"]),
    ("commonLabels: {app.kubernetes.io/name: x}", ["commonLabels.app.kubernetes.io/name"]),
    ("defaults: {podLabels: {app.kubernetes.io/instance: x}}", ["podLabels.app.kubernetes.io/instance"]),
    (
        "services: {drafter: {inVerifierPod: true, autoscaling: {engine: keda, max: 1}}}",
        ["services.drafter.autoscaling.engine", "inVerifierPod"],
    ),
    (
        "{redis: {enabled: false}, externalRedis: {url: 'redis://a:6379,b:6379/0'}}",
        ["externalRedis.url", "a:6379,b", "redis://host:6379/0"],
    ),
    ("{redis: {enabled: false}, externalRedis: {url: 'redis://a:6379/3'}}", ["externalRedis.url", "/3"]),
    ("policy: {inline: 'foo: ['}", ["policy.inline", "YAML"]),
    ("metrics: {prometheus: {hasCa: true, existingSecret: x}}", ["metrics.prometheus.hasCa", "authModes"]),
    (
        "services: {verifier: {podDeletionCost: {enabled: true}, serviceAccount: {create: false}}}",
        ["services.verifier.podDeletionCost", "serviceAccount"],
    ),
    (
        "services: {verifier: {podDeletionCost: {enabled: true}}, drafter: {inVerifierPod: true}}",
        ["services.verifier.podDeletionCost", "inVerifierPod"],
    ),
    ("defaults: {autoscaling: {engine: keda, min: 9}}", ["autoscaling", "min=9", "max=4"]),
    (
        """services: {verifier: {autoscaling: {engine: keda, redisStreams: [
          {stream: s, count: lagCount, target: 4}]}}}""",
        ["services.verifier.autoscaling.redisStreams", "lagCount", "consumerGroup"],
    ),
    (
        """services: {verifier: {autoscaling: {engine: keda, redisStreams: [
          {stream: s, count: pendingEntriesCount, target: 4}]}}}""",
        ["services.verifier.autoscaling.redisStreams", "pendingEntriesCount", "consumerGroup"],
    ),
    (
        """services:
          drafter: {inVerifierPod: true, extraVolumes: [{name: v, emptyDir: {}}]}
          verifier: {extraVolumes: [{name: v, secret: {secretName: s}}]}""",
        ["services.drafter.extraVolumes", "v", "services.verifier.extraVolumes"],
    ),
]


def refusal(tmp_path: Path, values: str) -> str:
    """What helm says to these values."""
    file = tmp_path / "values.yaml"
    file.write_text(values)
    with pytest.raises(ConfigurationError) as refused:
        chart.template("x", "--values", str(file))
    return str(refused.value)


@needs_helm
@pytest.mark.parametrize(("values", "words"), MISTAKES + CONTRADICTIONS, ids=lambda value: str(value)[:60])
def test_a_wrong_value_is_refused_by_its_name(values: str, words: list[str], tmp_path: Path) -> None:
    said = refusal(tmp_path, values)
    assert [part for word in words for part in word.split(".") if part not in said] == [], said
    assert "nil pointer" not in said


@needs_helm
def test_a_password_in_a_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    said = refusal(tmp_path, "{redis: {enabled: false}, externalRedis: {url: 'redis://gateway:hunter2@h:6379'}}")
    assert "externalRedis.url" in said
    assert "externalRedis.existingSecret" in said
    assert "hunter2" not in said


def complaints(values: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


@pytest.mark.parametrize("values", [values for values, _ in MISTAKES], ids=lambda value: str(value)[:60])
def test_the_schema_alone_refuses_it_too(values: str) -> None:
    """Also where there is no helm."""
    assert complaints(merged(default_values(), yaml.safe_load(values)))


def test_the_schema_takes_the_defaults_and_every_example() -> None:
    assert complaints(default_values()) == []
    for example in chart.examples():
        values = yaml.safe_load((chart.EXAMPLES / f"{example}.yaml").read_text())
        assert complaints(merged(default_values(), values)) == []


def open_places(schema: Any, place: str = "") -> list[str]:
    """Objects that take any field, though they list some."""
    if isinstance(schema, list):
        return [found for index, inner in enumerate(schema) for found in open_places(inner, f"{place}[{index}]")]
    if not isinstance(schema, dict):
        return []
    lists = isinstance(schema.get("properties"), dict) and "type" in schema
    here = [place] if lists and schema.get("additionalProperties") is not False else []
    return here + [found for name, inner in schema.items() for found in open_places(inner, f"{place}.{name}")]


def test_no_object_with_listed_fields_takes_others() -> None:
    assert open_places(SCHEMA) == [".properties.global"]  # shared with the charts that have this one as a part


def test_the_schema_knows_no_value_that_the_chart_has_not() -> None:
    """A field that is only in the schema is taken and does nothing."""
    known = SCHEMA["properties"]
    assert known.keys() == default_values().keys()
    service = SCHEMA["definitions"]["service"]["properties"].keys()
    given = set(default_values()["defaults"])
    for values in default_values()["services"].values():
        given |= set(values)
    assert service == given
