"""Volumes as folders: what is in them, and who may read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from deploy.rehearsal.manifests import RehearsalError, Render
from deploy.rehearsal.volumes import Volumes
from tests.unit.deploy.rehearsal.test_environment import POD, RENDER


def volumes(folder: Path, *made: dict[str, Any], group: int | None = None, render: Render = RENDER) -> Volumes:
    spec = {} if group is None else {"securityContext": {"fsGroup": group}}
    found = Volumes(folder / "pod", folder / "claims", render, POD, spec)
    for volume in made:
        found.make(volume)
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_stand_behind_links_with_the_modes_asked_for(tmp_path: Path) -> None:
    items = [{"key": "a", "path": "sub/x"}, {"key": "b", "path": "b", "mode": 0o600}]
    made = volumes(
        tmp_path, {"name": "v", "configMap": {"name": "settings", "items": items, "defaultMode": 0o640}}
    )
    root = made.path({"name": "v"})
    assert (root / "sub" / "x").read_text() == "1"
    assert mode(root / "sub" / "x") == 0o640
    assert mode(root / "b") == 0o600
    assert (root / "b").readlink() == Path("..data/b")


def test_a_group_of_the_pod_reads_what_the_owner_alone_could(tmp_path: Path) -> None:
    volume = {"name": "v", "secret": {"secretName": "secret", "defaultMode": 0o400}}
    key = volumes(tmp_path, volume, group=os.getgid()).path({"name": "v"}) / "key"
    assert (mode(key), key.stat().st_gid) == (0o440, os.getgid())
    assert key.read_text() == "secret"


def test_several_sources_in_one_folder(tmp_path: Path) -> None:
    sources = [
        {"secret": {"name": "secret", "items": [{"key": "key", "path": "k"}]}},
        {"configMap": {"name": "settings"}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    root = volumes(tmp_path, {"name": "v", "projected": {"sources": sources}}).path({"name": "v"})
    assert {name: (root / name).read_text() for name in ("k", "a", "name")} == {
        "k": "secret",
        "a": "1",
        "name": "v-0",
    }


def test_claims_outlive_pods_and_empty_folders_do_not(tmp_path: Path) -> None:
    claim = {"name": "c", "persistentVolumeClaim": {"claimName": "data"}}
    made = volumes(tmp_path, claim, {"name": "e", "emptyDir": {}})
    assert made.path({"name": "c"}) == tmp_path / "claims" / "data"
    assert made.path({"name": "e", "subPath": "x"}) == tmp_path / "pod" / "e" / "x"
    assert mode(made.path({"name": "e"})) == 0o777


@pytest.mark.parametrize(
    ("volume", "problem"),
    [
        ({"name": "v", "hostPath": {"path": "/"}}, "no hostPath"),
        ({"name": "v", "secret": {"secretName": "none"}}, "Secret none"),
        ({"name": "v", "secret": {"secretName": "secret", "items": [{"key": "x", "path": "x"}]}}, "no key x"),
        ({"name": "v", "projected": {"sources": [{"serviceAccountToken": {}}]}}, "serviceAccountToken"),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, volume: dict[str, Any], problem: str) -> None:
    with pytest.raises(RehearsalError, match=problem):
        volumes(tmp_path, volume)


def test_what_is_optional_may_be_missing(tmp_path: Path) -> None:
    made = volumes(tmp_path, {"name": "v", "secret": {"secretName": "none", "optional": True}})
    assert [path.name for path in made.path({"name": "v"}).iterdir() if not path.name.startswith(".")] == []


def test_a_mount_of_no_volume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RehearsalError, match="no such volume"):
        volumes(tmp_path).path({"name": "v"})
