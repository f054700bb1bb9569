"""What the token source and the client tell each other: arrays in a file that both map, one row for each stream.

A stream's place is its row's number, which its request carries as its seed. Counts are of token events since the
last `clear`; times are the wall clock in ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_STREAMS = 2048
KEPT = 1024  # times of each stream's last events
FLOAT = np.dtype("<f8")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Board:
    """``rate`` events a second over all streams, 0 for as many as the window lets through; ``window`` events of a
    stream may be on their way, with 0 the source holds everything."""

    _control: Floats  # [2]
    sent: Floats  # [MAX_STREAMS]
    received: Floats  # [MAX_STREAMS]
    sent_ms: Floats  # [MAX_STREAMS, KEPT]
    received_ms: Floats  # [MAX_STREAMS, KEPT]

    @property
    def rate(self) -> float:
        return float(self._control[0])

    @property
    def window(self) -> float:
        return float(self._control[1])

    def order(self, *, rate: float, window: int) -> None:
        """From the source's next turn on."""
        self._control[:] = rate, window

    def clear(self) -> None:
        """Between two clients, while no stream is open."""
        self.sent[:] = 0
        self.received[:] = 0

    def latencies(self) -> Floats:
        """ms from commit to client of each stream's last events, those that are still on their way left out."""
        found = []
        for place in np.flatnonzero(self.received > 0).tolist():
            last = int(self.received[place])
            events = np.arange(max(0, last - KEPT // 2), last) % KEPT
            found.append(self.received_ms[place, events] - self.sent_ms[place, events])
        return np.concatenate(found) if found else np.empty(0)


def map_board(path: Path) -> Board:
    """The arrays of a file, which is made where there is none."""
    sizes: tuple[tuple[int, ...], ...] = (
        (2,),
        (MAX_STREAMS,),
        (MAX_STREAMS,),
        (MAX_STREAMS, KEPT),
        (MAX_STREAMS, KEPT),
    )
    counts = [int(np.prod(shape)) for shape in sizes]
    length = sum(counts)
    whole: Any = np.memmap(path, FLOAT, "r+" if path.exists() else "w+", shape=(length,))
    cuts = np.split(whole, np.cumsum(counts)[:-1])
    return Board(*(cut.reshape(shape) for cut, shape in zip(cuts, sizes, strict=True)))
