"""How the ranks of a verifier find each other (torch.distributed), and what they say to each other."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from services.verifier.settings import VerifierSettings, stay_on_this_machine
from shared.inference.sharding import Rank
from shared.inference.steps import Step, pack, packed_size, unpack

FIRST_BYTES = 32_768  # most steps whole; what is longer takes a second broadcast
STEP_TIMEOUT = timedelta(seconds=60)  # ranks enter a sum within milliseconds of each other, or one is stuck
# Between two steps there may be a night. Who is gone in it is seen by its process (`ranks`), not by a timeout.
IDLE_TIMEOUT = timedelta(days=365)


def join(settings: VerifierSettings, index: int, store: Path) -> tuple[Rank, Line]:
    """Wait for all ranks at ``store``, a file that none of them had before.

    What they compute together goes over gloo between CPUs and over NCCL between GPUs. Steps go over gloo: every
    rank plans with them on the host.
    """
    stay_on_this_machine()
    count = settings.tensor_parallel
    is_cuda = settings.device == "cuda"
    if is_cuda:
        torch.cuda.set_device(index)
    dist.init_process_group("gloo", init_method=store.as_uri(), rank=index, world_size=count, timeout=IDLE_TIMEOUT)
    everybody = dist.group.WORLD
    assert everybody is not None
    group = dist.new_group(backend="nccl" if is_cuda else "gloo", timeout=STEP_TIMEOUT)
    dist.all_reduce(
        torch.zeros(1, device=settings.device_of(index)), group=group
    )  # NCCL connects at the first one
    return Rank(index, count, group), Line(everybody)


class Line:
    """From rank 0 to all others: each step in one broadcast, or two."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._first = torch.zeros(FIRST_BYTES, dtype=torch.uint8)

    def tell(self, step: Step) -> None:
        """On rank 0. Raises RuntimeError when another rank is gone."""
        packed = pack(step)
        first = packed[:FIRST_BYTES]
        self._first[: len(first)] = torch.from_numpy(first)
        dist.broadcast(self._first, group_src=0, group=self._group)
        if len(packed) > FIRST_BYTES:
            dist.broadcast(torch.from_numpy(packed[FIRST_BYTES:]), group_src=0, group=self._group)

    def hear(self) -> Step:
        """On the others; waits. Raises RuntimeError when another rank is gone."""
        dist.broadcast(self._first, group_src=0, group=self._group)
        packed = torch.empty(packed_size(self._first.numpy()), dtype=torch.uint8)
        packed[:FIRST_BYTES] = self._first[: len(packed)]
        if len(packed) > FIRST_BYTES:
            dist.broadcast(packed[FIRST_BYTES:], group_src=0, group=self._group)
        return unpack(packed.numpy())

    def wait_for_all(self) -> None:
        """Until every rank has come here."""
        dist.barrier(group=self._group)
