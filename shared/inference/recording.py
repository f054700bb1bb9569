"""Work on a device, recorded once and replayed: CUDA graphs, and the same without a GPU."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

Recorded = TypeVar("Recorded")
Work = Callable[[], torch.Tensor]


class Recorder:
    """Turns work into its replay.

    Work reads and writes tensors that stay where they are, and waits for nothing. What it returns is overwritten
    by any other replay of this recorder. It runs up to three times for one replay, so it must bear that.

    Without CUDA work is run anew each time, into the same result: inputs and results behave here as they do there.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def record(self, work: Work) -> Work:
        """The replay of ``work``."""
        return self._again(work) if self._stream is None else self._captured(work, self._stream)

    def _again(self, work: Work) -> Work:
        result = work()

        def replay() -> torch.Tensor:
            return result.copy_(work())

        return replay

    def _captured(self, work: Work, stream: torch.cuda.Stream) -> Work:
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            work()  # kernels are picked, workspaces and tables are there: none of it may happen in a graph
        torch.cuda.current_stream(stream.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            result = work()

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay


class Kept(Generic[Recorded]):
    """What was recorded, by key, at most ``limit`` of it: the one longest unused goes.

    It is recorded when its key comes the second time: what comes once is not worth it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, Recorded] = OrderedDict()
        self._seen: set[Hashable] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, record: Callable[[], Recorded]) -> Recorded | None:
        """What is kept for this key, recorded now if need be; None the first time."""
        if key not in self._kept:
            if key not in self._seen:
                self._seen.add(key)
                return None
            while len(self._kept) >= self._limit:
                gone, _ = self._kept.popitem(last=False)
                self._seen.discard(gone)
            self._kept[key] = record()
        self._kept.move_to_end(key)
        return self._kept[key]
