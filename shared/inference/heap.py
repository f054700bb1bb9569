"""Memory that the C library keeps after it was freed."""

from __future__ import annotations

import ctypes


def give_back_freed() -> None:
    """Return freed pages to the system; nothing where the C library is not glibc.

    A model's weights are freed one by one as they are packed, in between the packed ones: glibc keeps such pages,
    which for a target of 155 M parameters are a quarter of a GiB. Takes milliseconds; for the end of loading.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
