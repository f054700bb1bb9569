"""Modules that need torch, replaced before a service's composition root is imported: table models start fast."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


def stand_in(name: str, **names: Any) -> None:
    """Whoever imports ``name`` from now on gets a module that holds only these names."""
    module = ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module
