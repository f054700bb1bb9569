"""An enlarged target behind the same draft: the running system draws the embedded target's tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.enlargement import TwinShape
from bench.local import LocalStack, local_stack
from bench.prompts import source_prompts
from bench.twin import build_twin
from models.paths import TARGET
from tests.effort import heavy

SMALL = TwinShape(layers=8, hidden=384, mlp=1024, vocab=5000, dtype="bfloat16")
PROMPTS = source_prompts(4, seed=13, max_chars=200)


def answers(stack: LocalStack) -> list[dict[str, Any]]:
    """Greedy and sampled in turn."""
    return [
        stack.complete(
            {
                "prompt": prompt,
                "max_tokens": 32,
                "temperature": [0.0, 1.0][number % 2],
                "seed": number,
                "ignore_eos": True,
                "return_token_ids": True,
            }
        )
        for number, prompt in enumerate(PROMPTS)
    ]


@heavy
@pytest.mark.timeout(180)
def test_the_system_draws_the_same_tokens_from_a_twin(stack: LocalStack, tmp_path: Path) -> None:
    expected = answers(stack)
    twin = build_twin(TARGET, tmp_path / "twin", SMALL)
    with local_stack({"verifier": {"DTYPE": "float64"}}, target=str(twin)) as running:
        found = answers(running)
    for one, other in zip(found, expected, strict=True):
        assert one["choices"][0]["token_ids"] == other["choices"][0]["token_ids"]
    stats = [answer["metrics"]["speculative_decoding"] for answer in found]
    assert sum(entry["num_accepted_draft_tokens"] for entry in stats) > 0
