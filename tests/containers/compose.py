"""What the compose files give a service, with the variables at their defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

import deploy.docker

FOLDER = Path(deploy.docker.__file__).parent
FILES = ("compose.yaml", "compose.tls.yaml")
_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")


def environment_of(service: str) -> Mapping[str, str]:
    """Of both files, the second one over the first."""
    found: dict[str, str] = {}
    for name in FILES:
        about = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))["services"][service]
        found |= {variable: _DEFAULT.sub(r"\1", str(value)) for variable, value in about["environment"].items()}
    return found
