"""All figures of a stored pair on this machine's held-out files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from models.architecture import count_parameters
from models.corpus import load_corpus, seen_line_share
from models.loop import training_device
from models.storage import load_model
from models.text_score import bits_per_byte, score_text
from models.tokenizer import load_tokenizer
from models.tokens import encode_documents
from models.tree_score import NEW_TOKENS, score_trees


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What the model card reports. Bits per byte count the text's UTF-8 bytes.

    `fresh_...` counts each continuation up to where it starts to repeat itself.
    """

    held_out_files: int
    held_out_bytes: int
    held_out_tokens: int
    seen_line_share: float
    target_parameters: int
    draft_parameters: int
    target_bits_per_byte: float
    draft_bits_per_byte: float
    top1_agreement: float
    coverage_top3: float
    prompts: int
    new_tokens: int
    tokens_per_verification: dict[str, float]
    repeated_token_share: float
    fresh_tokens_per_verification: dict[str, float]


def evaluate_pair(
    target_directory: Path, draft_directory: Path, *, num_prompts: int, max_files: int | None
) -> Evaluation:
    """Evaluate two stored models on this machine's held-out files."""
    device = training_device()
    tokenizer = load_tokenizer(target_directory)
    target, draft = load_model(target_directory, device), load_model(draft_directory, device)
    corpus = load_corpus()
    texts = [file.text for file in corpus.held_out[:max_files]]
    tokens = encode_documents(texts, tokenizer)
    score = score_text(target, draft, tokens)
    num_bytes = sum(len(text.encode()) for text in texts)
    trees = score_trees(target, draft, split_documents(texts, tokenizer), num_prompts)
    return Evaluation(
        held_out_files=len(texts),
        held_out_bytes=num_bytes,
        held_out_tokens=len(tokens),
        seen_line_share=seen_line_share(corpus),
        target_parameters=count_parameters(target),
        draft_parameters=count_parameters(draft),
        target_bits_per_byte=bits_per_byte(score.target_nats, score.tokens, len(tokens), num_bytes),
        draft_bits_per_byte=bits_per_byte(score.draft_nats, score.tokens, len(tokens), num_bytes),
        top1_agreement=score.agreed / score.tokens,
        coverage_top3=score.covered / score.tokens,
        prompts=trees.prompts,
        new_tokens=NEW_TOKENS,
        tokens_per_verification=trees.whole.ratios(),
        repeated_token_share=1.0 - trees.fresh.num_tokens / trees.whole.num_tokens,
        fresh_tokens_per_verification=trees.fresh.ratios(),
    )


def split_documents(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """Ids of each text."""
    return [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(list(texts))]
