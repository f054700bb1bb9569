"""What the scripts have counted of a cell, whatever hour it is."""

from __future__ import annotations

from typing import Any

from redis import Redis

from shared.topics import Keys
from shared.usage import Row, Usage, entries


def usage_of(client: Redis, keys: Keys) -> dict[Row, Usage]:
    """Every row that Redis holds."""
    prefix = keys.usage("")
    names: list[Any] = [key.decode() for key in client.scan_iter(match=f"{prefix}*", count=1000)]
    stored: list[tuple[str, Any]] = [(name.removeprefix(prefix), client.hgetall(name)) for name in sorted(names)]
    return {row: used for hour, held in stored for row, used in entries(hour, held)}
