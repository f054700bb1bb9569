"""Changes of how the cell serves that nobody's request made: told to whoever keeps them, by default to the log."""

from __future__ import annotations

import logging
from typing import Any, Protocol

logger = logging.getLogger(__name__)

SYSTEM = "system"
"""Who it was when it was no operator."""


class Record(Protocol):
    """``what`` is a word such as `policy.reload`; ``before`` and ``after`` are as JSON holds them."""

    async def __call__(self, what: str, *, who: str, before: Any, after: Any) -> None: ...


async def to_log(what: str, *, who: str, before: Any, after: Any) -> None:
    """One line."""
    logger.warning("%s by %s: %s -> %s", what, who, before, after)
