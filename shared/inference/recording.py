"""Work on a device, recorded once and replayed: CUDA graphs, and the same without a GPU.

Everything is recorded before anything is served. A recording waits for the device, gives cached memory back and
runs its work twice, a tenth of a second that nobody who waits for a token should pay for; and a step that held one
would teach the latency model nonsense. What has no recording then is launched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, Self, TypeVar

import torch

logger = logging.getLogger(__name__)

Work = Callable[[], None]


class Shaped(Protocol):
    """How large recorded work is."""

    @property
    def cost(self) -> float:
        """An order to choose by."""

    def holds(self, other: Self, /) -> bool:
        """Whether what has the other shape can be padded to this one."""


Shape = TypeVar("Shape", bound=Shaped)
Recorded = TypeVar("Recorded")


class Recorder:
    """Turns work into its replay.

    Work reads and writes tensors that stay where they are and that live longer than its replay, and waits for
    nothing. Its result has to be among them: whatever else it allocates is shared by all that this recorder has
    recorded, so that a hundred recordings take the memory of the largest.

    Without CUDA work is run anew each time: inputs and results behave here as they do there.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def record(self, work: Work) -> Work:
        """The replay of ``work``, which runs now as well. Raises torch.OutOfMemoryError."""
        if self._stream is None:
            work()
            return work
        with torch.cuda.device(self._stream.device):  # recording waits for, and empties, the current device
            return self._captured(work, self._stream)

    def _captured(self, work: Work, stream: torch.cuda.Stream) -> Work:
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            work()  # kernels are picked, workspaces and tables are there: none of it may happen in a graph
        torch.cuda.current_stream(stream.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads of a service (heartbeat, metrics) never touch the device; but nothing they do is to end it.
        with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            work()
        return graph.replay


class Recordings(Generic[Shape, Recorded]):
    """What was recorded, by its shape."""

    def __init__(self) -> None:
        self._kept: list[tuple[Shape, Recorded]] = []  # the cheapest first

    def __len__(self) -> int:
        return len(self._kept)

    def record(self, shapes: Iterable[Shape], record: Callable[[Shape], Recorded]) -> None:
        """All of them, the largest first, so that the others find its memory there.

        What there is no memory for is left out, with a warning: it will be launched.
        """
        missing = 0
        for shape in sorted(set(shapes), key=lambda shape: -shape.cost):
            try:
                self._kept.insert(0, (shape, record(shape)))
            except torch.OutOfMemoryError:
                missing += 1
        if missing:
            logger.warning("%d shapes of passes are not recorded, for want of memory", missing)

    def holding(self, shape: Shape) -> tuple[Shape, Recorded] | None:
        """The cheapest recording that what has this shape can be padded to; None without any."""
        return next((kept for kept in self._kept if kept[0].holds(shape)), None)
