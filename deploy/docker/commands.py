"""Running what makes images, so that its words are seen."""

from __future__ import annotations

import subprocess
import sys


def run(*words: str) -> None:
    """Shows the command and what it says. Raises CalledProcessError."""
    sys.stdout.write(f"+ {' '.join(words)}\n")
    sys.stdout.flush()
    subprocess.run(words, check=True)


def output(*words: str) -> str:
    """What the command prints. Raises CalledProcessError."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
