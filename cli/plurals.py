"""Counts in words: `1 problem`, `2 problems`. Pure."""

from __future__ import annotations


def counted(count: int, name: str) -> str:
    """With an s, except for one."""
    return f"{count} {name}" if count == 1 else f"{count} {name}s"
