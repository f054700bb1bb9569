"""The verifier process with a table model for a target: `python -m tests.faults.table_verifier`, without torch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from services.verifier.settings import VerifierSettings
from shared.inference.blocks import BlockPool
from shared.inference.plan import ForwardPlan
from shared.latency import LatencyModel
from shared.tokenizer import Tokenizer, load_tokenizer
from tests.faults.stand_in import stand_in
from tests.table_model import TableModel, TableRunner, remember_few

STEP_S = 0.008
NUM_BLOCKS = 2048


class PacedRunner(TableRunner):
    """Takes as long as a small model would, so that kills meet requests on their way."""

    def logits(self, plan: ForwardPlan) -> Any:
        time.sleep(STEP_S)
        return super().logits(plan)


@dataclass(frozen=True, slots=True)
class TableTarget:
    """`services.verifier.target.Target` over a table."""

    tokenizer: Tokenizer
    pool: BlockPool
    runner: PacedRunner
    eos_token_ids: frozenset[int]
    name: str = "table"
    table: LatencyModel = LatencyModel(tokens=(1, 64, 512), ms=(8.0, 8.5, 10.0))

    @property
    def context_limit(self) -> int:
        return self.pool.num_blocks * self.pool.block_size

    def close(self) -> None:
        """There are no other ranks."""

    def describe(self, **now: Any) -> dict[str, Any]:
        return {
            "ready": True,
            "context_limit": self.context_limit,
            "model": self.name,
            "token_map": self.tokenizer.token_map_digest,
            **now,
        }


def load_target(settings: VerifierSettings) -> TableTarget:
    tokenizer, pool = load_tokenizer(settings.target), BlockPool(NUM_BLOCKS)
    runner = PacedRunner(TableModel(tokenizer.vocab_size), NUM_BLOCKS * pool.block_size)
    return TableTarget(tokenizer, pool, runner, tokenizer.eos_token_ids)


if __name__ == "__main__":
    remember_few()
    stand_in("services.verifier.target", Target=TableTarget, load_target=load_target)
    from services.verifier.__main__ import main

    main()
