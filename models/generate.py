"""Plain batched generation, greedy or sampled."""

from __future__ import annotations

import torch
from transformers import LlamaForCausalLM, StaticCache


@torch.inference_mode()
def continue_text(
    model: LlamaForCausalLM, prompts: torch.Tensor, count: int, *, temperature: float = 0.0
) -> torch.Tensor:
    """[batch, prompt + count] ids: `count` tokens after each prompt, not stopping at end of text."""
    cache = StaticCache(config=model.config, max_cache_len=prompts.shape[1] + count)
    step, pieces = prompts, [prompts]
    for _ in range(count):
        logits = model(input_ids=step, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        step = choose_tokens(logits.float(), temperature)
        pieces.append(step)
    return torch.cat(pieces, dim=1)


def choose_tokens(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """[batch, 1] ids from [batch, vocab] logits."""
    if temperature == 0.0:
        return logits.argmax(-1, keepdim=True)
    return torch.multinomial((logits / temperature).softmax(-1), 1)
