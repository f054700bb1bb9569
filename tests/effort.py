"""How hard the properties are tried: enough for every change, or, with `make thorough`, as hard as is useful."""

from __future__ import annotations

import os

import pytest

THOROUGH = os.environ.get("ADASERVE_THOROUGH") == "1"
BRIEFER = 5


def examples(thorough: int) -> int:
    """Examples for a property that deserves `thorough` of them when there is time."""
    return thorough if THOROUGH else max(thorough // BRIEFER, min(thorough, 10))


heavy = pytest.mark.skipif(
    not THOROUGH, reason="`make thorough` runs it; a benchmark or campaign shows the same at length"
)
