"""What pods mount and read: ConfigMaps, Secrets, claims, files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.chart.renders import SERVICES, Document, Pod, Render


def external_names(render: Render) -> set[str]:
    """What the values declare to be somebody else's: `existing…`, `…Secret`, a volume's source, `pvc://claim/…`."""
    return set(_declared(render.values))


def _declared(values: object, key: str = "") -> Iterator[str]:
    if isinstance(values, dict):
        for name, inner in values.items():
            yield from _declared(inner, name)
    elif isinstance(values, list):
        for inner in values:
            yield from _declared(inner, key)
    elif isinstance(values, str) and values:
        if re.search(r"^existing|Secret$|^secretName$|^(claimName|configMap|pullSecrets|imagePullSecrets)$", key):
            yield values
        yield from re.findall(r"^pvc://([^/]+)", values)


def mounts_what_there_is(render: Render) -> list[str]:
    """ConfigMaps, Secrets and claims of a pod, and their keys, are in the render or the values declare them."""
    there = {(d["kind"], d["metadata"]["name"]): d for d in render.documents}
    outside = external_names(render)
    found = []
    for pod in render.pods():
        for kind, name, keys in _mounted(pod):
            document = there.get((kind, name))
            if document is None:
                found += [] if name in outside else [f"{pod.where}: there is no {kind} {name}"]
                continue
            held = {**(document.get("data") or {}), **(document.get("stringData") or {})}
            held |= document.get("binaryData") or {}
            found += [f"{pod.where}: {kind} {name} has no {key}" for key in keys if key not in held]
    return found


def _mounted(pod: Pod) -> Iterator[tuple[str, str, list[str]]]:
    """Kind, name and asked keys."""
    for source in sources(pod):
        if (secret := source.get("secret")) is not None:
            yield "Secret", secret.get("secretName") or secret["name"], _keys(secret)
        if (config := source.get("configMap")) is not None:
            yield "ConfigMap", config["name"], _keys(config)
        if (claim := source.get("persistentVolumeClaim")) is not None:
            yield "PersistentVolumeClaim", claim["claimName"], []
    for secret in pod.spec.get("imagePullSecrets") or []:
        yield "Secret", secret["name"], []
    yield from _read(pod)


def sources(pod: Pod) -> Iterator[Document]:
    """Volumes, and what is projected into one."""
    for volume in pod.spec.get("volumes") or []:
        yield volume
        yield from (volume.get("projected") or {}).get("sources") or []


def _read(pod: Pod) -> Iterator[tuple[str, str, list[str]]]:
    """What its environment refers to."""
    for container in pod.containers():
        for entry in container.env.values():
            for kind, field in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
                if (asked := (entry.get("valueFrom") or {}).get(field)) is not None:
                    yield kind, asked["name"], [asked["key"]]


def _keys(source: Document) -> list[str]:
    return [item["key"] for item in source.get("items") or []]


def mounts_each_volume(render: Render) -> list[str]:
    """Each mount has its volume and each volume a mount, and no two mounts of a container are at one place."""
    found = []
    for pod in render.pods():
        volumes = {volume["name"] for volume in pod.spec.get("volumes") or []}
        volumes |= {c["metadata"]["name"] for c in pod.owner["spec"].get("volumeClaimTemplates") or []}
        used = set()
        for container in pod.containers():
            mounts = container.spec.get("volumeMounts") or []
            places = [mount["mountPath"] for mount in mounts]
            used |= {mount["name"] for mount in mounts}
            found += [f"{container.where}: two mounts at {p}" for p in sorted(set(places)) if places.count(p) > 1]
        found += [f"{pod.where}: there is no volume {name}" for name in sorted(used - volumes)]
        found += [f"{pod.where}: nothing mounts volume {name}" for name in sorted(volumes - used)]
    return found


def reads_files_that_are_mounted(render: Render) -> list[str]:
    """Each `*_FILE` of our services is a file below one of the container's mounts."""
    found = []
    for pod in render.pods_of(*SERVICES):
        for container in pod.containers():
            places = tuple(f"{m['mountPath'].rstrip('/')}/" for m in container.spec.get("volumeMounts") or [])
            exact = {m["mountPath"] for m in container.spec.get("volumeMounts") or []}
            for name, entry in container.env.items():
                file = entry.get("value", "")
                if name.endswith("_FILE") and not file.startswith(places) and file not in exact:
                    found.append(f"{container.where}: {name} is {file}, which is not mounted")
    return found


POLICIES = (mounts_what_there_is, mounts_each_volume, reads_files_that_are_mounted)
