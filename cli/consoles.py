"""Where tables go."""

from __future__ import annotations

import sys

from rich.console import Console

PIPED_WIDTH = 200  # columns, where nobody's terminal says


def for_tables() -> Console:
    """Standard output, wide enough for tables where it is a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
