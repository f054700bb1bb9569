"""What stands for each image: there is no registry here, so an image is a few paths of this machine."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.rehearsal.manifests import RehearsalError
from deploy.rehearsal.sandbox import Mount
from shared.embedded_redis import find_binary

REPOSITORY = Path(__file__).resolve().parents[2]
WORKDIR = "/opt/adaserve"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BYTE_CODE = "/var/cache/python"
REDIS_BIN = "/opt/redis/bin"
SERVICES = ("gateway", "drafter", "selector", "verifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """``source`` says, in the table of substitutions, where its content is from."""

    source: str
    workdir: str
    uid: int
    environment: Mapping[str, str]
    mounts: list[Mount] = field(default_factory=list)
    links: Mapping[str, str] = field(default_factory=dict)
    cache: str = ""  # a folder that the release's pods fill together, for what an image has ready
    programs: Mapping[str, str] = field(default_factory=dict)  # scripts, by path


def image(reference: str) -> Image:
    """Raises RehearsalError for one that nothing stands for."""
    name = reference.partition("@")[0].rpartition("/")[2].partition(":")[0]
    if name.startswith("adaserve-") and name.removeprefix("adaserve-") in SERVICES:
        return _service()
    if name in ("redis", "valkey"):
        return _redis()
    raise RehearsalError(f"image {reference}: nothing on this machine stands for it")


def _service() -> Image:
    """This checkout and this Python, both where they are, and the checkout at the image's workdir."""
    environment = Path(sys.prefix).resolve()
    folders = [environment, _interpreter()]
    return Image(
        source=f"the checkout, read-only at {WORKDIR}; Python of {environment}",
        workdir=WORKDIR,
        uid=10001,
        environment={
            "PATH": f"{environment}/bin:{PATH}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPYCACHEPREFIX": BYTE_CODE,
        },
        cache=BYTE_CODE,
        mounts=[Mount(REPOSITORY, WORKDIR, True), *(Mount(folder, str(folder), True) for folder in folders)],
    )


def _redis() -> Image:
    server, client = Path(find_binary()), shutil.which("redis-cli") or shutil.which("valkey-cli")
    mounts, programs = [Mount(server, "/opt/redis/server", True)], {}
    links = {f"{REDIS_BIN}/{name}-server": "/opt/redis/server" for name in ("redis", "valkey")}
    clients = [f"{REDIS_BIN}/{name}-cli" for name in ("redis", "valkey")]
    if client is None:
        python, stand_in = _interpreter(), Path(__file__).with_name("redis_cli.py")
        mounts += [Mount(python, str(python), True), Mount(stand_in, "/opt/redis/cli.py", True)]
        text = f'#!/bin/sh\nexec {python}/bin/python3 -IS /opt/redis/cli.py "$@"\n'
        programs = dict.fromkeys(clients, text)
    else:
        mounts.append(Mount(Path(client), "/opt/redis/cli", True))
        links |= dict.fromkeys(clients, "/opt/redis/cli")
    return Image(
        source=f"{server}; its client is {client or 'a stand-in, deploy/rehearsal/redis_cli.py'}",
        workdir="/data",
        uid=999,
        environment={"PATH": f"{REDIS_BIN}:{PATH}"},
        mounts=mounts,
        links=links,
        programs=programs,
    )


def _interpreter() -> Path:
    """The Python that the virtual environment is made of."""
    return Path(sysconfig.get_config_var("installed_base")).resolve()
