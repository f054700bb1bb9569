"""What the tools of this folder read from the environment."""

from __future__ import annotations

import os


def helm_variable() -> str | None:
    """The program that the variable HELM names, if it does."""
    return os.environ.get("HELM") or None
