"""Volumes of nothing, and mounts in one another's place."""

from __future__ import annotations

from tests.chart.plants.spoiling import Plants, container, pod, setting, volume
from tests.chart.policies import mounts as policies
from tests.chart.renders import Render


def nobodys_volume(render: Render) -> None:
    pod(render).spec["volumes"].append({"name": "far", "configMap": {"name": "nobody-has-it"}})


def other_key(render: Render) -> None:
    volume(render, "redis", "configMap")["configMap"]["items"] = [{"key": "other", "path": "x"}]


def same_place(render: Render) -> None:
    mounts = container(render)["volumeMounts"]
    mounts.append(dict(mounts[0]))


PLANTS: Plants = [
    (policies.mounts_what_there_is, nobodys_volume),
    (policies.mounts_what_there_is, other_key),
    (policies.mounts_each_volume, nobodys_volume),
    (policies.mounts_each_volume, same_place),
    (policies.mounts_each_volume, lambda r: pod(r).spec["volumes"].pop()),
    (policies.reads_files_that_are_mounted, setting("ADASERVE_KEYS_FILE", "/etc/keys.yaml", "gateway")),
]
