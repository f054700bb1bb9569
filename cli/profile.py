"""`adaserve profile`: measures forward passes in a process of its own, for the command line knows no torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from cli import models


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of `adaserve profile`; a model that is None is the embedded one."""

    target: str | None
    draft: str | None
    device: str
    dtype: str
    threads: int
    as_json: bool


def command(choices: Choices) -> list[str]:
    """What is run. Raises ModelError when a model's directory has no configuration."""
    target, draft = (
        models.embedded(role) if choice is None else models.checked(choice, f"--{role}")
        for role, choice in (("target", choices.target), ("draft", choices.draft))
    )
    options = ["--target", target, "--draft", draft, "--device", choices.device, "--dtype", choices.dtype]
    as_json = ["--json"] if choices.as_json else []
    return [sys.executable, "-m", "bench.profile", *options, "--threads", str(choices.threads), *as_json]


def run(choices: Choices) -> int:
    """The exit code of the measurement, which prints for itself."""
    return subprocess.run(command(choices), check=False).returncode
