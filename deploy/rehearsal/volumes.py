"""Volumes of a pod as folders of this machine, owned and moded as the kubelet does it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.rehearsal.environment import Identity, amount, contents
from deploy.rehearsal.manifests import Document, RehearsalError, Render

FILE_MODE = 0o644
_SOURCES = {"configMap": "ConfigMap", "secret": "Secret"}


class Volumes:
    """Folders of one pod below ``folder``, by volume name. ``claims`` outlive the pod."""

    def __init__(self, folder: Path, claims: Path, render: Render, identity: Identity, pod_spec: Document) -> None:
        self._folder, self._claims, self._render, self._identity = folder, claims, render, identity
        group = pod_spec.get("securityContext", {}).get("fsGroup")
        self._group = None if group is None else int(group)
        self._paths: dict[str, Path] = {}
        self._mounted: list[Path] = []

    def make(self, volume: Mapping[str, Any]) -> None:
        """Raises RehearsalError for a source that this node does not have, and for what is missing."""
        name = volume["name"]
        path = self._folder / name
        (source,) = (key for key in volume if key != "name")
        given = volume[source] or {}
        if source == "emptyDir":
            self._make_empty(path, given)
        elif source == "persistentVolumeClaim":
            path = self._claims / given["claimName"]
            self._make_shared(path)
        elif source in _SOURCES or source in ("projected", "downwardAPI"):
            self._make_files(path, source, given)
        else:
            raise RehearsalError(f"volume {name}: this node has no {source}")
        self._paths[name] = path

    def path(self, mount: Mapping[str, Any]) -> Path:
        """What a ``volumeMount`` mounts. Raises RehearsalError for a volume that the pod does not have."""
        if mount["name"] not in self._paths:
            raise RehearsalError(f"volumeMount {mount['name']}: the pod has no such volume")
        path = self._paths[mount["name"]] / str(mount.get("subPath", ""))
        if not path.exists():
            self._make_shared(path)
        return path

    def remove(self) -> None:
        """What is in memory goes with the pod; files stay for whoever looks into them."""
        for path in self._mounted:
            subprocess.run(["/bin/umount", "--lazy", str(path)], check=False)
        self._mounted.clear()

    def _make_empty(self, path: Path, given: Mapping[str, Any]) -> None:
        path.mkdir(parents=True)
        if given.get("medium") == "Memory":
            size = f"size={int(amount(str(given['sizeLimit'])))}" if "sizeLimit" in given else "size=50%"
            subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", size, "tmpfs", str(path)], check=True)
            self._mounted.append(path)
        self._share(path)

    def _make_shared(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._share(path)

    def _share(self, path: Path) -> None:
        """World-writable without ``fsGroup``, else its group's with the set-group-id bit."""
        if self._group is None:
            path.chmod(0o777)
            return
        os.chown(path, -1, self._group)
        path.chmod(0o2777)

    def _make_files(self, path: Path, source: str, given: Mapping[str, Any]) -> None:
        """Behind the links by which the kubelet changes all files of a volume at once."""
        data = path / "..data-1"
        data.mkdir(parents=True)
        default = int(given.get("defaultMode", FILE_MODE))
        parts = given.get("sources", ()) if source == "projected" else [{source: given}]
        for part in parts:
            for name, (content, mode) in self._files(part).items():
                self._write(data / name, content, default if mode is None else mode)
        (path / "..data").symlink_to(data.name)
        for entry in data.iterdir():
            (path / entry.name).symlink_to(Path("..data") / entry.name)

    def _files(self, part: Mapping[str, Any]) -> dict[str, tuple[bytes, int | None]]:
        ((source, given),) = part.items()
        if source == "downwardAPI":
            return {
                item["path"]: (self._identity.field(item["fieldRef"]["fieldPath"]).encode(), item.get("mode"))
                for item in given["items"]
            }
        if source not in _SOURCES:
            raise RehearsalError(f"a projected volume of {source} is not supported")
        name = given.get("secretName") or given["name"]
        document = self._render.find(_SOURCES[source], name, is_optional=bool(given.get("optional")))
        held = {} if document is None else contents(document)
        if "items" not in given:
            return {key: (content, None) for key, content in held.items()}
        found = {}
        for item in given["items"]:
            if item["key"] in held:
                found[item["path"]] = held[item["key"]], item.get("mode")
            elif not given.get("optional"):
                raise RehearsalError(f"{_SOURCES[source]} {name} has no key {item['key']}, which a volume mounts")
        return found

    def _write(self, path: Path, content: bytes, mode: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if self._group is not None:  # who may read a file of mode 0400 is told by its group
            os.chown(path, 0, self._group)
            mode |= 0o440
        path.chmod(mode)
