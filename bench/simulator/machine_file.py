"""The machine one sits at, as `adaserve profile --json` measured it, for simulations of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.simulator.hardware import QWEN_32B, DraftHost, Hardware, Measured
from shared.errors import ConfigurationError
from shared.latency import LatencyModel

BATCH_ROWS, TREE_WIDTH = 16, 3  # the measured tree level that stands for all


def read_machine(path: Path) -> Hardware:
    """Raises ConfigurationError naming the file and what is wrong with it."""
    try:
        parts = {part["role"]: part for part in json.loads(path.read_text())}
        target, draft = parts["target"], parts["draft"]
        model = LatencyModel(**{name: _frozen(value) for name, value in target["fitted"].items()})
        level_ms = _level_ms(draft["levels"])
        budget = int(target["budget"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path}: not a profile of `adaserve profile --json` ({error})") from error
    engine = Measured(model=model)
    return Hardware(
        name=path.stem,
        vllm=engine,
        sarathi=engine,
        adaserve=engine,
        vllm_draft=DraftHost(level_ms=level_ms, iteration_ms=1.0, token_ms=0.0),
        zero_load_ms=model.predict_ms(1, rows=1),
        draft_step_ms=level_ms,
        kv_tokens=64 * 1024,
        acceptance=QWEN_32B.acceptance,  # a profile measures time only; this is assumed
        max_running=64,
        budget=budget,
        draft_tokens_per_step=96,
        depths=(1, 8),
    )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _level_ms(levels: list[dict[str, Any]]) -> float:
    """Of the measured level closest to a batch of BATCH_ROWS trees of TREE_WIDTH."""
    level = min(levels, key=lambda level: abs(level["rows"] * level["width"] - BATCH_ROWS * TREE_WIDTH))
    return float(level["level_ms"])
