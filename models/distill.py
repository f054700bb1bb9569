"""Distilling the draft from the stored target."""

from __future__ import annotations

from functools import partial

import torch
from transformers import LlamaForCausalLM

from models.architecture import draft_config, new_model
from models.attention import use_training_attention
from models.loop import Plan, Trainer, device_name, training_device
from models.losses import distillation_loss
from models.paths import CACHE, TARGET
from models.records import save_record
from models.rollouts import prepare_rollouts
from models.storage import load_model
from models.tokens import Mixture, TokenArray, Windows

ROLLOUT_TIME_SHARE = 0.15
ROLLOUT_BATCH_SHARE = 0.4
BATCH_TOKENS = 4096
DRAFT_LENGTHS = ((0.0, 512), (0.85, 1024))


def train_draft(tokens: TokenArray, *, budget_s: float, compiled: bool, choice_weight: float) -> LlamaForCausalLM:
    """A draft trained for `budget_s` wall-clock seconds, writing of rollouts included."""
    device = training_device()
    rollout_s = budget_s * ROLLOUT_TIME_SHARE
    rollouts = prepare_rollouts(CACHE / "rollouts.u16", TARGET, tokens, device=device, budget_s=rollout_s)
    target = load_model(TARGET, device)
    model = new_model(draft_config()).to(device)
    inherit_embeddings(model, target)
    for each in (model, target):
        use_training_attention(each)
    state = Trainer(
        name="draft",
        model=model,
        loss=partial(distillation_loss, model, target, choice_weight=choice_weight),
        windows=Mixture(Windows(tokens), Windows(rollouts), second_share=ROLLOUT_BATCH_SHARE),
        plan=Plan(
            budget_s=budget_s - rollout_s,
            batch_tokens=BATCH_TOKENS,
            lengths=DRAFT_LENGTHS,
            compiled=compiled,
        ),
        checkpoint=CACHE / "draft.pt",
    ).run()
    save_record("draft", state, device=device_name())
    return model


@torch.no_grad()
def inherit_embeddings(draft: LlamaForCausalLM, target: LlamaForCausalLM) -> None:
    """Start from the target's embeddings in their principal directions, at the usual scale."""
    source = target.get_input_embeddings().weight.float()  # [vocab, target hidden]
    own = draft.get_input_embeddings().weight  # [vocab, draft hidden]
    directions = torch.linalg.svd(source, full_matrices=False).Vh[: own.shape[1]]
    projected = source @ directions.T
    own.copy_(projected * (own.std() / projected.std()))
