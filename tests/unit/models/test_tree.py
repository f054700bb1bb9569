"""The batched trees of the evaluation against a beam grown one node at a time."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.tree import accepted_depths, count_verifications
from models.tree_score import fresh_length

VOCAB = 40


@pytest.fixture(scope="module")
def draft() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


@torch.inference_mode()
def walk_tree(draft: LlamaForCausalLM, tokens: list[int], root: int, depth: int, width: int) -> int:
    """Accepted nodes under the root at this position, every path run from scratch."""
    prefix, truth = tokens[: root + 1], tokens[root + 1 : root + 1 + depth]
    beam: list[tuple[float, list[int]]] = [(0.0, [])]
    accepted = 0
    for level in range(1, depth + 1):
        children = [
            (score + float(log_prob), [*path, token])
            for score, path in beam
            for token, log_prob in enumerate(draft(torch.tensor([prefix + path])).logits[0, -1].log_softmax(-1))
        ]
        beam = sorted(children, key=lambda child: -child[0])[:width]
        if truth[:level] in [path for _, path in beam]:
            accepted = level
    return accepted


@pytest.mark.parametrize("width", [1, 3])
def test_batched_trees_accept_what_single_trees_accept(draft: LlamaForCausalLM, width: int) -> None:
    tokens = greedy_text(draft)
    accepted = accepted_depths(draft, tokens, first_root=5, depth=3, width=width)
    for row, text in enumerate(tokens.tolist()):
        for index in range(accepted.shape[1]):
            assert accepted[row, index, -1] == walk_tree(draft, text, 5 + index, 3, width)
    assert 0 < accepted[..., -1].float().mean() < 3


@torch.inference_mode()
def greedy_text(draft: LlamaForCausalLM) -> torch.Tensor:
    """Text in which every third token is random and the others are the draft's first choice."""
    tokens = torch.randint(0, VOCAB, (2, 6))
    for index in range(12):
        choice = draft(tokens).logits[:, -1].argmax(-1, keepdim=True)
        tokens = torch.cat((tokens, torch.randint(0, VOCAB, (2, 1)) if index % 3 == 2 else choice), 1)
    return tokens


def test_a_run_moves_by_accepted_tokens_and_the_bonus() -> None:
    assert count_verifications([2, 9, 9, 0, 1, 9, 9], 5) == 3


def test_a_continuation_is_fresh_until_it_repeats_itself() -> None:
    loop = list(range(10, 30))
    assert fresh_length(torch.tensor([1, 2, 3, *loop, *loop, *loop])) == 23
    assert fresh_length(torch.tensor([5] * 40)) == 1
    assert fresh_length(torch.arange(1, 41)) == 40
    assert fresh_length(torch.tensor([4, 5, 0, 6, 7])) == 3
