"""How long threads that have done their part of a product spin for the next one. Imported before torch."""

from __future__ import annotations

import os

# Some ten microseconds: most gaps between products are shorter. By default GNU's OpenMP spins for milliseconds,
# and where another process has work its threads then wait out whole time slices for each other: beside a busy
# process two threads took 48 to 70 ms for a pass of the twin, and 42 ms with this; alone 26 and 28 ms.
SPIN_COUNT = "2000"
_CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def spin_briefly() -> None:
    """Unless the environment says how to wait. OpenMP reads it when torch is imported, and never again."""
    if not any(choice in os.environ for choice in _CHOICES):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
