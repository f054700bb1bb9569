"""Losses: next-token cross-entropy for the target, distillation for the draft."""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM


def token_logits(model: LlamaForCausalLM, inputs: torch.Tensor) -> torch.Tensor:
    """[tokens, vocab] logits for [sequences, length] ids."""
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
    logits: torch.Tensor = model.lm_head(hidden)
    return logits.flatten(0, 1)


def next_token_loss(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of [sequences, length + 1] windows."""
    logits = token_logits(model, batch[:, :-1]).float()
    return functional.cross_entropy(logits, batch[:, 1:].flatten())


def distillation_loss(
    draft: LlamaForCausalLM, target: LlamaForCausalLM, batch: torch.Tensor, *, choice_weight: float
) -> torch.Tensor:
    """KL(target || draft) plus the draft's cross-entropy on the target's first choice, in nats.

    Greedy verification accepts the target's first choice only, so mass on it is what a
    token tree needs; KL alone keeps the order below it useful for wider trees.
    """
    with torch.no_grad():
        target_logits = token_logits(target, batch[:, :-1]).float()
        target_probs = target_logits.softmax(-1)  # [tokens, vocab]
        choices = target_logits.argmax(-1)  # [tokens]
    draft_log_probs = token_logits(draft, batch[:, :-1]).float().log_softmax(-1)
    cross_entropy = -(target_probs * draft_log_probs).sum(-1).mean()
    choice_loss = functional.nll_loss(draft_log_probs, choices)
    return (1.0 - choice_weight) * cross_entropy + choice_weight * choice_loss
