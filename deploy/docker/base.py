"""A base image of Debian's own packages, for machines that reach no registry of images: mmdebstrap and buildah.

Two of them: `adaserve-base` has Python and nothing to build with, `adaserve-builder` has pip and strip besides.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.docker.commands import output, run

RELEASE = "bookworm"
BASE, BUILDER = "localhost/adaserve-base", "localhost/adaserve-builder"
PACKAGES = ("python3", "ca-certificates", "libstdc++6", "usr-is-merged")  # not usrmerge, which brings all of Perl
HOOKS = "/usr/share/mmdebstrap/hooks/merged-usr"
BUILD_PACKAGES = ("python3-pip", "binutils")
UNUSED = ("doc", "info", "lintian", "locale", "man", "bash-completion", "zsh")
# Perl is there for maintainers' scripts, which never run again; the rest is for writing and converting programs.
LATER_UNUSED = (
    "var/cache/*", "var/log/*", "usr/bin/perl*", "usr/lib/*/perl-base", "usr/lib/*/gconv",
    "usr/lib/python3*/ensurepip", "usr/lib/python3*/idlelib", "usr/lib/python3*/lib2to3",
    "usr/lib/python3*/pydoc_data", "usr/lib/python3*/test",
)  # fmt: skip


def make(name: str, packages: Sequence[str]) -> None:
    """An image of the essential packages and these, without manuals, lists and caches."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "root.tar"
        words = ["mmdebstrap", "--quiet", "--variant=essential", f"--include={','.join(packages)}"]
        words += ['--aptopt=APT::Install-Recommends "false"', f"--hook-dir={HOOKS}"]
        words += [f"--dpkgopt=path-exclude=/usr/share/{unused}/*" for unused in UNUSED]
        words += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
        words += [f'--customize-hook=cd "$1" && rm -rf {" ".join(LATER_UNUSED)}']
        run(*words, RELEASE, str(tree))
        container = output("buildah", "from", "scratch")
        run("buildah", "add", "--quiet", container, str(tree), "/")
        run("buildah", "config", "--cmd", "python3", container)
        run("buildah", "commit", "--quiet", "--rm", container, name)


def make_both() -> tuple[str, str]:
    """Base and builder, made where they are not there yet."""
    have = output("buildah", "images", "--format", "{{.Name}}").split()
    for name, packages in {BASE: PACKAGES, BUILDER: (*PACKAGES, *BUILD_PACKAGES)}.items():
        if name not in have:
            make(name, packages)
    return BASE, BUILDER
