"""Everything in which this node differs from a Kubernetes node: the one table, printed before each rehearsal.

A field of a render that is neither carried out nor named here stops the rehearsal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deploy.rehearsal.images import image
from deploy.rehearsal.manifests import WORKLOADS, Document, RehearsalError, Render

SUPPLIED = {
    "pod IP": "an address of 10.77.0.0/16 in a network namespace of the pod's own, on a bridge",
    "Service of type ClusterIP": "a TCP proxy over the ready endpoints; as kube-proxy it hears of changes late",
    "names of Services": "/etc/hosts, rewritten as endpoints come and go, in place of the cluster's DNS",
    "base image": "this machine's /usr, /bin, /lib and some of /etc, read-only",
    "PATH and workdir": "the images' own, of deploy/rehearsal/images.py",
    "byte code of the images": "a folder that pods fill and share, so only the first start compiles",
    "PersistentVolumeClaim": "a folder that outlives its pods and not the rehearsal",
    "API server": "api_server.py: changes of a pod's annotations, held against Role and RoleBinding",
    "scheduler": "one node, with room for every pod",
    "termination message, logs": "a file for each container",
}
"""What a node or the cluster would give."""

LEFT_OUT = {
    "resources": "no cgroups: requests and limits bind nobody here",
    "seccompProfile": "no filter is loaded; capabilities, user and privileges are as rendered",
    "imagePullPolicy": "nothing is pulled",
    "imagePullSecrets": "nothing is pulled",
    "enableServiceLinks": "no variables for Services, as `false` asks",
    "fsGroupChangePolicy": "volumes are new or small",
    "affinity": "one node",
    "topologySpreadConstraints": "one node",
    "nodeSelector": "one node",
    "tolerations": "one node",
    "priorityClassName": "nothing is evicted",
    "runtimeClassName": "one runtime",
    "revisionHistoryLimit": "there is no rollback",
    "podManagementPolicy": "one replica",
    "persistentVolumeClaimRetentionPolicy": "claims go with the rehearsal",
    "terminationMessagePolicy": "logs are files",
    "terminationMessagePath": "logs are files",
    "sizeLimit": "nothing is evicted for what it writes",
}
"""Fields that are not carried out, by name, wherever they stand."""

KINDS_LEFT_OUT = {
    "PodDisruptionBudget": "bounds the eviction of pods, which a rollout or a scale does not do",
    "ServiceAccount": "accounts are known by their name",
    "NetworkPolicy": "nothing filters; connections that are seen are held against it (edges.py)",
    "ServiceMonitor": "no Prometheus operator",
    "PodMonitor": "no Prometheus operator",
    "PrometheusRule": "no Prometheus operator",
    "HorizontalPodAutoscaler": "the rehearsal scales",
    "ScaledObject": "the rehearsal scales",
    "TriggerAuthentication": "the rehearsal scales",
    "Ingress": "clients come through the Service",
    "HTTPRoute": "clients come through the Service",
    "PersistentVolumeClaim": "see above",
}

DONE = {
    "workload": "replicas strategy selector template updateStrategy serviceName minReadySeconds "
    "volumeClaimTemplates progressDeadlineSeconds",
    "strategy": "type rollingUpdate.maxSurge rollingUpdate.maxUnavailable",
    "pod": "containers initContainers volumes terminationGracePeriodSeconds serviceAccountName "
    "automountServiceAccountToken",
    "pod securityContext": "runAsNonRoot runAsUser runAsGroup fsGroup supplementalGroups",
    "container": "name image command args workingDir ports env envFrom volumeMounts livenessProbe readinessProbe "
    "startupProbe lifecycle",
    "container securityContext": "runAsNonRoot runAsUser runAsGroup allowPrivilegeEscalation privileged "
    "readOnlyRootFilesystem capabilities.drop",
    "lifecycle": "preStop",
    "volumeMount": "name mountPath subPath readOnly",
}
"""Fields that are carried out, of each part of a workload."""


KINDS_DONE = ("Service", "ConfigMap", "Secret", "Role", "RoleBinding")


def check(render: Render) -> None:
    """Raises RehearsalError naming every field and kind that is neither carried out nor declared."""
    known = {*WORKLOADS, *KINDS_DONE, *KINDS_LEFT_OUT}
    unknown = [f"kind {document['kind']}" for document in render.documents if document["kind"] not in known]
    for workload in render.of_kind(*WORKLOADS):
        place = f"{workload['kind']} {workload['metadata']['name']}"
        unknown += [f"{place}: {field}" for field in _undeclared(workload)]
    if unknown:
        raise RehearsalError(f"neither carried out nor declared in substitutions.py: {'; '.join(unknown)}")


def _undeclared(workload: Document) -> Iterator[str]:
    spec = workload["spec"]["template"]["spec"]
    yield from _beyond("workload", workload["spec"])
    yield from _beyond("strategy", workload["spec"].get("strategy", {}))
    yield from _beyond("pod", spec, "securityContext")
    yield from _beyond("pod securityContext", spec.get("securityContext", {}))
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        yield from _beyond("container", container, "securityContext")
        yield from _beyond("container securityContext", container.get("securityContext", {}))
        yield from _beyond("lifecycle", container.get("lifecycle", {}))
        for mount in container.get("volumeMounts", ()):
            yield from _beyond("volumeMount", mount)


def _beyond(part: str, fields: Mapping[str, Any], *also: str) -> Iterator[str]:
    done = {*DONE[part].split(), *also}
    for name, value in fields.items():
        inner = {path.partition(".")[2] for path in done if path.startswith(f"{name}.")}
        if inner and isinstance(value, Mapping):
            yield from (f"{part}.{name}.{key}" for key in value if key not in inner)
        elif name not in done and name not in LEFT_OUT:
            yield f"{part}.{name}"


def table(render: Render) -> list[tuple[str, str, str]]:
    """``(what, of the render, here)``: the rows that concern this render."""
    rows = [("supplied", name, text) for name, text in SUPPLIED.items()]
    rows += [("image", reference, image(reference).source) for reference in sorted(_images(render))]
    fields = set(_fields([document["spec"] for document in render.of_kind(*WORKLOADS)]))
    rows += [("left out", name, reason) for name, reason in LEFT_OUT.items() if name in fields]
    kinds = {str(document["kind"]) for document in render.documents}
    rows += [("left out", kind, reason) for kind, reason in KINDS_LEFT_OUT.items() if kind in kinds]
    return rows


def _images(render: Render) -> set[str]:
    return {
        container["image"]
        for workload in render.of_kind(*WORKLOADS)
        for part in ("initContainers", "containers")
        for container in workload["spec"]["template"]["spec"].get(part, ())
    }


def _fields(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _fields(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _fields(inner)
