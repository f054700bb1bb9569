"""Secrets are files of the pod that needs them; an environment shows in crash dumps and `kubectl describe`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.chart.policies.mounts import sources
from tests.chart.renders import Container, Render, where

_TELLING = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|(API|ADMIN|ACCESS|PRIVATE)_?KEY$", re.IGNORECASE)
_ELSEWHERE = re.compile(r"_(FILE|PATH|DIR)$")
_IN_A_URL = re.compile(r"[a-z]+://[^/\s@]*:[^/\s@]+@")


def _environments(render: Render) -> Iterator[tuple[Container, str, dict]]:
    for container in render.containers():
        for name, entry in container.env.items():
            yield container, name, entry


def has_no_secret_in_its_environment(render: Render) -> list[str]:
    found = []
    for container, name, entry in _environments(render):
        if "secretKeyRef" in (entry.get("valueFrom") or {}):
            found.append(f"{container.where}: {name} is read from a Secret into the environment")
        if entry.get("value") and _TELLING.search(name) and not _ELSEWHERE.search(name):
            found.append(f"{container.where}: {name} holds a value, and is called like a secret")
    for container in render.containers():
        sources = container.spec.get("envFrom") or []
        found += [f"{container.where}: a whole Secret in the environment" for s in sources if "secretRef" in s]
    return found


def has_no_password_in_plain_sight(render: Render) -> list[str]:
    """Neither in a URL nor among arguments, nor in a ConfigMap."""
    found = []
    for container in render.containers():
        words = [*(container.spec.get("command") or []), *(container.spec.get("args") or [])]
        words += [str(entry.get("value", "")) for entry in container.env.values()]
        found += [f"{container.where}: a URL with a password" for word in words if _IN_A_URL.search(word)]
        found += [f"{container.where}: {word.split()[0]}" for word in words if word.startswith("--requirepass")]
    for document in render.of_kind("ConfigMap"):
        for key, text in (document.get("data") or {}).items():
            if _IN_A_URL.search(text) or re.search(r"^\s*(requirepass|masterauth)\s", text, re.MULTILINE):
                found.append(f"{where(document)}: {key} has a password in it")
    return found


def sees_only_its_own_secrets(render: Render) -> list[str]:
    """Of a Secret with a key for each user a pod mounts its own; Redis alone needs to know them all."""
    found = []
    for pod in render.pods():
        if pod.component == "redis":
            continue
        own = {f"{container.spec['name']}-password" for container in pod.containers()}
        for secret in (source["secret"] for source in sources(pod) if "secret" in source):
            keys = [item["key"] for item in secret.get("items") or []]
            foreign = [key for key in keys if key.endswith("-password") and key not in own]
            found += [f"{pod.where} mounts {key}" for key in foreign]
            found += [] if keys else [f"{pod.where} mounts all of a Secret"]
    return found


def keeps_secret_files_to_itself(render: Render) -> list[str]:
    """A mounted secret is read-only and not for everybody: at most 0440."""
    found = []
    for pod in render.pods():
        for volume in pod.spec.get("volumes") or []:
            held = volume.get("secret") or volume.get("projected")
            secret = "secret" in volume or any("secret" in s for s in (held or {}).get("sources") or [])
            if secret and (held or {}).get("defaultMode", 0o644) & 0o337:
                found.append(f"{pod.where}: volume {volume['name']} has mode {held.get('defaultMode', 0o644):o}")
    return found


POLICIES = (
    has_no_secret_in_its_environment,
    has_no_password_in_plain_sight,
    sees_only_its_own_secrets,
    keeps_secret_files_to_itself,
)
