"""A base image of Debian's own packages, for machines that reach no registry of images: mmdebstrap and buildah.

Two of them: `adaserve-base` has Python and nothing to build with, `adaserve-builder` has pip besides.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.docker.commands import output, run

RELEASE = "bookworm"
BASE, BUILDER = "localhost/adaserve-base", "localhost/adaserve-builder"
PACKAGES = ("python3", "ca-certificates")
UNUSED = ("doc", "info", "lintian", "locale", "man", "bash-completion", "common-licenses", "zsh")


def make(name: str, packages: Sequence[str]) -> None:
    """An image of the essential packages and these, without manuals, lists and caches."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "root.tar"
        words = ["mmdebstrap", "--quiet", "--variant=essential", f"--include={','.join(packages)}"]
        words += [
            f"--dpkgopt=path-exclude=/usr/share/{unused}/*" for unused in UNUSED if unused != "common-licenses"
        ]
        words += [
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            '--customize-hook=rm -rf "$1"/var/cache/* "$1"/var/log/*',
        ]
        run(*words, RELEASE, str(tree))
        container = output("buildah", "from", "scratch")
        run("buildah", "add", "--quiet", container, str(tree), "/")
        run("buildah", "config", "--cmd", "python3", container)
        run("buildah", "commit", "--quiet", "--rm", container, name)


def make_both() -> tuple[str, str]:
    """Base and builder, made where they are not there yet."""
    have = output("buildah", "images", "--format", "{{.Name}}").split()
    for name, packages in {BASE: PACKAGES, BUILDER: (*PACKAGES, "python3-pip")}.items():
        if name not in have:
            make(name, packages)
    return BASE, BUILDER
