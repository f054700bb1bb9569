"""What a training run records about itself for the model card."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from models.loop import State
from models.paths import MODELS

RECORDS = MODELS / "training.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One model's training; `tokens` were seen in optimizer steps, `minutes` are wall clock."""

    steps: int
    tokens: int
    minutes: float
    device: str


def save_record(name: str, state: State, *, device: str, path: Path = RECORDS) -> None:
    """Add or replace the record of one model."""
    record = Record(steps=state.step, tokens=state.tokens, minutes=round(state.elapsed_s / 60, 1), device=device)
    records = load_records(path) | {name: record}
    content = {name: asdict(each) for name, each in sorted(records.items())}
    path.write_text(json.dumps(content, indent=2) + "\n")


def load_records(path: Path = RECORDS) -> dict[str, Record]:
    """Records by model name."""
    if not path.exists():
        return {}
    return {name: Record(**each) for name, each in json.loads(path.read_text()).items()}
