"""The drafter process with a noisy table for a model: `python -m tests.faults.table_drafter`, without torch."""

from __future__ import annotations

from services.drafter.settings import DrafterSettings
from shared.inference.blocks import BlockPool
from shared.tokenizer import load_tokenizer
from tests.faults.stand_in import stand_in
from tests.table_model import TableModel, TableRunner, remember_few

NOISE = 0.3
NUM_BLOCKS = 2048


def load_table_drafter(settings: DrafterSettings) -> tuple[object, str]:
    from services.drafter.drafter import Drafter

    tokenizer, pool = load_tokenizer(settings.draft), BlockPool(NUM_BLOCKS)
    model = TableModel(tokenizer.vocab_size, seed=1, noise=NOISE)
    drafter = Drafter(
        TableRunner(model, NUM_BLOCKS * pool.block_size), pool, max_tokens=64, catch_up=32, warm_chunk=64
    )
    return drafter, tokenizer.token_map_digest


if __name__ == "__main__":
    remember_few()
    stand_in("torch")
    stand_in("shared.inference.loading", load_model=None)
    stand_in("shared.inference.placing", Use=None, place=None)
    stand_in("shared.inference.runner", ModelRunner=None)
    stand_in("shared.inference.identity", model_name=lambda _: "table-draft")
    import services.drafter.__main__ as root

    root.load_drafter = load_table_drafter  # type: ignore[assignment]
    root.main()
