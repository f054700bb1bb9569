"""Recorded work as a CUDA graph wants it: it waits for nothing, and stays on its device. On one without memory."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy.typing as npt
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from shared.inference import beam, tiled_forward
from shared.inference.buckets import Load
from shared.inference.flash import flash_kernel
from shared.inference.recording import Recorder, Work
from shared.inference.runner import ModelRunner
from tests.unit.shared.inference.tiny_models import stock_model

LOAD = Load(rows=4, chunk=64, context=4096, trees=(1, 3, 12), widths=(1, 3))


class OnDevice(TorchDispatchMode):
    """Nothing but tensors of the device goes in or comes out: no copy from the host, no number for it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **kwargs or {})
        for leaf in tree_leaves((args, kwargs, result)):
            assert not isinstance(leaf, torch.Tensor) or leaf.device.type == "meta", func
        self.calls += 1
        return result


def upload(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array).to(device)


@pytest.mark.parametrize("way", ["gathered", "in place"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral-window"])
def test_recorded_work_neither_waits_nor_leaves_its_device(
    family: str, dtype: torch.dtype, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = OnDevice()

    def record(recorder: Recorder, work: Work) -> Work:
        with watched:
            work()
        return work

    monkeypatch.setattr(Recorder, "record", record)
    for module in (beam, tiled_forward):
        monkeypatch.setattr(module, "upload", upload)
    model = copy.deepcopy(stock_model(family, dtype)).to("meta")
    kernel = flash_kernel() if way == "in place" else None
    runner = ModelRunner(model, 512, recorded=True, in_place=kernel)
    runner.record(LOAD)
    assert runner.num_recorded > 40
    assert watched.calls > 40 * runner.num_recorded


def test_what_waits_is_noticed() -> None:
    numbers = torch.zeros(3, device="meta")
    for waiting in (lambda: numbers.sum().item(), lambda: numbers.nonzero(), lambda: numbers + torch.zeros(3)):
        with pytest.raises((RuntimeError, NotImplementedError, AssertionError)), OnDevice():
            waiting()
