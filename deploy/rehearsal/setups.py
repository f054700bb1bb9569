"""From a container's spec to what it is started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.rehearsal.container import Setup
from deploy.rehearsal.environment import Identity, environment, expanded
from deploy.rehearsal.images import Image, image
from deploy.rehearsal.manifests import Document, RehearsalError, Render
from deploy.rehearsal.sandbox import Mount, User
from deploy.rehearsal.volumes import Volumes


@dataclass(frozen=True, slots=True)
class Given:
    """What every container of a pod gets without asking."""

    mounts: list[Mount]
    environment: dict[str, str]
    cache: Path


class Setups:
    """Of one pod; ``folder`` is the pod's."""

    def __init__(
        self, spec: Document, identity: Identity, render: Render, folder: Path, given: Given, volumes: Volumes
    ) -> None:
        self._spec, self._identity, self._render = spec, identity, render
        self._folder, self._given, self._volumes = folder, given, volumes

    def __call__(self, container: Document, number: int) -> Setup:
        """Of the container's start ``number``: roots are used once. Raises RehearsalError."""
        if "command" not in container:
            raise RehearsalError(
                f"container {container['name']}: has no command, and images here have no ENTRYPOINT"
            )
        chosen = image(container["image"])
        variables = environment(container, self._identity, self._render)
        words = [*container["command"], *container.get("args", ())]
        user = self._user(container, chosen)
        name = f"{container['name']}-{number}"
        return Setup(
            name=container["name"],
            command=[expanded(str(word), variables) for word in words],
            environment={**chosen.environment, **self._given.environment, **variables},
            user=user,
            workdir=str(container.get("workingDir", chosen.workdir)),
            mounts=self._mounts(container, chosen),
            files=_accounts(user) | {"/etc/hostname": f"{self._identity.name}\n", "/etc/resolv.conf": ""},
            links=dict(chosen.links),
            programs=dict(chosen.programs),
            is_read_only=bool(container.get("securityContext", {}).get("readOnlyRootFilesystem", False)),
            root=self._folder / "roots" / name,
            log=self._folder / f"{container['name']}.log",
        )

    def _mounts(self, container: Document, chosen: Image) -> list[Mount]:
        wanted = [
            Mount(self._volumes.path(mount), mount["mountPath"], bool(mount.get("readOnly", False)))
            for mount in container.get("volumeMounts", ())
        ]
        cache = [Mount(self._given.cache, chosen.cache, False)] if chosen.cache else []
        return [*chosen.mounts, *cache, *self._given.mounts, *wanted]

    def _user(self, container: Document, chosen: Image) -> User:
        """Raises RehearsalError for root where the render forbids it."""
        pod: Mapping[str, Any] = self._spec.get("securityContext", {})
        own = {**pod, **container.get("securityContext", {})}
        uid = int(own.get("runAsUser", chosen.uid))
        if own.get("runAsNonRoot") and uid == 0:
            raise RehearsalError(f"container {container['name']}: runAsNonRoot, but its user is root")
        groups = [*pod.get("supplementalGroups", ()), *([pod["fsGroup"]] if "fsGroup" in pod else [])]
        drops_all = "ALL" in own.get("capabilities", {}).get("drop", ())
        return User(
            uid=uid,
            gid=int(own.get("runAsGroup", 0)),
            groups=tuple(int(group) for group in groups),
            keeps_capabilities=bool(own.get("privileged", False)) or not drops_all,
            may_gain=bool(own.get("allowPrivilegeEscalation", True)),
        )


def _accounts(user: User) -> dict[str, str]:
    """As the images have them: the user has a name and no home."""
    return {
        "/etc/passwd": f"root:x:0:0:root:/root:/bin/sh\nadaserve:x:{user.uid}:{user.gid}::/tmp:/bin/sh\n",
        "/etc/group": f"root:x:0:\nadaserve:x:{user.gid}:\n",
    }
