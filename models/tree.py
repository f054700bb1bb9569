"""Tokens per verification of a draft, without an engine.

At temperature 0 the target's continuation does not depend on the draft, so it is generated
once; then a tree is grown at every position of it at the same time, and the accepted depth
of each tree says how a speculative run would have walked over the continuation. The beam is
the served one (AdaServe, speculation step): step 1 keeps the `width` best children of the
root, each later step the `width` best by path probability among the children of the last.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import DynamicCache, LlamaForCausalLM


@dataclass(frozen=True, slots=True, kw_only=True)
class Beam:
    """The last level of all trees.

    `slots` holds, per node, its index within each earlier level: its ancestors.
    """

    tokens: torch.Tensor  # [batch, roots, width]
    log_probs: torch.Tensor  # [batch, roots, width] of the whole path
    slots: torch.Tensor  # [batch, roots, width, levels before]
    on_path: torch.Tensor  # [batch, roots, width] bool: equals the continuation so far


@torch.inference_mode()
def accepted_depths(
    draft: LlamaForCausalLM, tokens: torch.Tensor, *, first_root: int, depth: int, width: int
) -> torch.Tensor:
    """Accepted nodes of the tree at each root: [batch, roots, depth] for trees of depth 1, 2, ...

    `tokens` is [batch, length]: prompt and greedy continuation. Roots are the positions
    `first_root .. length - depth - 1`.
    """
    cache = DynamicCache()
    logits = draft(input_ids=tokens, past_key_values=cache, use_cache=True).logits
    roots = torch.arange(first_root, tokens.shape[1] - depth, device=tokens.device)
    beam = first_level(logits[:, roots], tokens[:, roots + 1], width)
    accepted = [beam.on_path.any(-1)]
    for level in range(1, depth):
        logits = level_logits(draft, cache, beam, roots, prefix=tokens.shape[1])
        beam = next_level(beam, logits, tokens[:, roots + level + 1], width)
        accepted.append(beam.on_path.any(-1))
    return torch.stack(accepted, -1).int().cumsum(-1)


def first_level(logits: torch.Tensor, truth: torch.Tensor, width: int) -> Beam:
    """Best children of each root from [batch, roots, vocab] logits."""
    best = logits.log_softmax(-1).topk(width)
    return Beam(
        tokens=best.indices,
        log_probs=best.values,
        slots=best.indices.new_zeros((*best.indices.shape, 0)),
        on_path=best.indices == truth.unsqueeze(-1),
    )


def next_level(beam: Beam, logits: torch.Tensor, truth: torch.Tensor, width: int) -> Beam:
    """Best children of the last level from [batch, roots, width, vocab] logits."""
    paths = beam.log_probs.unsqueeze(-1) + logits.log_softmax(-1)
    best = paths.flatten(-2).topk(width)
    parents = best.indices // logits.shape[-1]  # [batch, roots, width]
    children = best.indices % logits.shape[-1]
    ancestors = parents.unsqueeze(-1).expand(*parents.shape, beam.slots.shape[-1])
    return Beam(
        tokens=children,
        log_probs=best.values,
        slots=torch.cat((beam.slots.gather(2, ancestors), parents.unsqueeze(-1)), -1),
        on_path=beam.on_path.gather(-1, parents) & (children == truth.unsqueeze(-1)),
    )


def level_logits(
    draft: LlamaForCausalLM, cache: DynamicCache, beam: Beam, roots: torch.Tensor, *, prefix: int
) -> torch.Tensor:
    """Draft logits after each node of the level: [batch, roots, width, vocab]."""
    batch, num_roots, width = beam.tokens.shape
    level = beam.slots.shape[-1]
    positions = (roots + 1 + level).repeat_interleave(width).expand(batch, -1)
    logits: torch.Tensor = draft(
        input_ids=beam.tokens.flatten(1),
        position_ids=positions,
        attention_mask=tree_mask(beam, roots, prefix=prefix),
        past_key_values=cache,
        use_cache=True,
    ).logits
    return logits.view(batch, num_roots, width, -1)


def tree_mask(beam: Beam, roots: torch.Tensor, *, prefix: int) -> torch.Tensor:
    """Additive mask [batch, 1, roots * width, keys]: text up to the root, ancestors, itself."""
    batch, num_roots, width = beam.tokens.shape
    level = beam.slots.shape[-1]
    device = roots.device
    own = torch.arange(width, device=device).view(1, 1, width, 1).expand(batch, num_roots, -1, 1)
    slots = torch.cat((beam.slots, own), -1)  # [batch, roots, width, level + 1]
    levels = torch.arange(level + 1, device=device)
    row = torch.arange(num_roots, device=device).view(1, -1, 1, 1)
    keys = prefix + levels * (num_roots * width) + row * width + slots
    text = torch.arange(prefix, device=device) <= roots.view(1, -1, 1, 1)
    visible = torch.zeros(
        (batch, num_roots, width, prefix + (level + 1) * num_roots * width),
        dtype=torch.bool,
        device=device,
    )
    visible[..., :prefix] = text
    visible.scatter_(-1, keys, True)
    mask = torch.zeros(visible.shape, device=device).masked_fill_(~visible, float("-inf"))
    return mask.flatten(1, 2).unsqueeze(1)


def count_verifications(depths: list[int], num_tokens: int) -> int:
    """Verifications of a run over `num_tokens` positions with these accepted depths."""
    position = verifications = 0
    while position < num_tokens:
        position += depths[position] + 1
        verifications += 1
    return verifications
