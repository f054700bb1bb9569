"""Train the embedded pair: `python -m models.train --minutes 75`.

Two thirds of the time go to the target, one third to the draft. A stopped run continues
from its checkpoints in `models/.cache`; `--fresh` forgets them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from models.architecture import new_model, target_config
from models.attention import use_training_attention
from models.chat import chat_documents
from models.corpus import load_corpus
from models.distill import train_draft
from models.loop import Plan, Trainer, device_name, training_device
from models.losses import next_token_loss
from models.paths import CACHE, DRAFT, TARGET
from models.records import save_record
from models.storage import store_model
from models.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer
from models.tokens import TokenArray, Windows, encode_documents, load_tokens, save_tokens

TOKENIZER_SAMPLE_ONE_IN = 3


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the embedded target and draft models.")
    add = parser.add_argument
    add("--minutes", type=float, default=75.0, help="wall-clock time for both models")
    add("--target-share", type=float, default=2 / 3, help="share of it for the target")
    add("--threads", type=int, default=torch.get_num_threads(), help="processor threads")
    add("--only", choices=("target", "draft"), help="train one; the time share stays the same")
    add("--fresh", action="store_true", help="forget checkpoints and encoded text")
    add("--no-compile", action="store_true", help="do without torch.compile")
    add("--choice-weight", type=float, default=0.5, help="weight of the target's first choice")
    return parser.parse_args(arguments)


def prepare_tokenizer() -> PreTrainedTokenizerFast:
    """The stored tokenizer, or a newly trained one where there is none."""
    cached = CACHE / "tokenizer"
    if (TARGET / "tokenizer.json").exists():
        return load_tokenizer(TARGET)
    if not cached.exists():
        files = load_corpus().train[::TOKENIZER_SAMPLE_ONE_IN]
        save_tokenizer(train_tokenizer(file.text for file in files), cached)
    return load_tokenizer(cached)


def prepare_tokens(tokenizer: PreTrainedTokenizerFast) -> TokenArray:
    """Training tokens in shuffled document order, encoded once into the cache."""
    path = CACHE / "train.u16"
    if not path.exists():
        files = load_corpus().train
        documents = [file.text for file in files] + list(chat_documents(files))
        order = np.random.default_rng(0).permutation(len(documents))
        save_tokens(encode_documents((documents[i] for i in order), tokenizer), path)
    return load_tokens(path)


def forget(cache: Path) -> None:
    """Remove checkpoints and encoded tokens."""
    for path in (*cache.glob("*.pt"), *cache.glob("*.u16")):
        path.unlink()


def train_target(tokens: TokenArray, *, budget_s: float, compiled: bool) -> LlamaForCausalLM:
    """A target trained for `budget_s` wall-clock seconds."""
    model = new_model(target_config()).to(training_device())
    use_training_attention(model)
    state = Trainer(
        name="target",
        model=model,
        loss=partial(next_token_loss, model),
        windows=Windows(tokens),
        plan=Plan(budget_s=budget_s, compiled=compiled),
        checkpoint=CACHE / "target.pt",
    ).run()
    save_record("target", state, device=device_name())
    return model


def train_pair(arguments: argparse.Namespace) -> None:
    """Prepare text, train, store; each model is stored as soon as it is done."""
    tokenizer = prepare_tokenizer()
    tokens = prepare_tokens(tokenizer)
    seconds = 60.0 * arguments.minutes
    compiled = not arguments.no_compile
    if arguments.only != "draft":
        budget_s = seconds * arguments.target_share
        model = train_target(tokens, budget_s=budget_s, compiled=compiled)
        store_model(model, tokenizer, TARGET)
    if arguments.only != "target":
        budget_s = seconds * (1.0 - arguments.target_share)
        model = train_draft(
            tokens,
            budget_s=budget_s,
            compiled=compiled,
            choice_weight=arguments.choice_weight,
        )
        store_model(model, tokenizer, DRAFT)


def main() -> None:
    """Entry point."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    CACHE.mkdir(exist_ok=True)
    if arguments.fresh:
        forget(CACHE)
    train_pair(arguments)


if __name__ == "__main__":
    main()
