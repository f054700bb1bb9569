"""The machine one sits at, as `adaserve profile --json` measured it, for simulations of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from bench.simulator.hardware import QWEN_32B, DraftHost, Hardware, Measured
from shared.errors import ConfigurationError
from shared.latency import LatencyModel

BATCH_ROWS, TREE_WIDTH = 16, 3  # the measured tree level that stands for all


class _Level(BaseModel):
    rows: int = Field(ge=1)
    width: int = Field(ge=1)
    level_ms: float = Field(gt=0, allow_inf_nan=False)


class _Part(BaseModel):
    """What of a part of the profile a simulation needs; the target has the former two, the draft the latter."""

    role: str
    fitted: dict[str, Any] | None = None
    budget: int | None = Field(default=None, ge=1, le=1 << 20)
    levels: list[_Level] | None = None


_Profile = TypeAdapter(list[_Part])


def read_machine(path: Path) -> Hardware:
    """Raises ConfigurationError naming the file and what is wrong with it."""
    try:
        parts = {part.role: part for part in _Profile.validate_json(path.read_text())}
        target, draft = parts["target"], parts["draft"]
        model = LatencyModel(**{name: _frozen(value) for name, value in (target.fitted or {}).items()})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise _refusal(path, f"{field}: {first['msg']} (got {str(first['input'])[:40]})") from None
    except KeyError as error:
        raise _refusal(path, f"no part has the role {error}") from None
    except (OSError, ValueError, TypeError) as error:
        raise _refusal(path, str(error)) from error
    if not draft.levels:
        raise _refusal(path, "the draft's levels must be at least one")
    level_ms, budget = _level_ms(draft.levels), target.budget or 1
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


def _refusal(path: Path, words: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: not a profile of `adaserve profile --json`: {words}")


def _level_ms(levels: Sequence[_Level]) -> float:
    """Of the measured level closest to a batch of BATCH_ROWS trees of TREE_WIDTH."""
    return min(levels, key=lambda level: abs(level.rows * level.width - BATCH_ROWS * TREE_WIDTH)).level_ms
