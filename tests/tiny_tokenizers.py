"""Tokenizers of a few hundred tokens, trained in milliseconds, as model directories without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = ("hello world, how are you today?", "the naïve café costs 5 € 🙂", "def run(self): return None\n" * 3)
BOS, EOS, USER = "<s>", "</s>", "<|user|>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "{{ '<|user|>' + m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def byte_level(*, vocab_size: int = 320) -> Tokenizer:
    """Byte-level BPE with <s> </s> <|user|> as ids 0, 1, 2; encode adds <s> where special tokens are asked for."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS, USER],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("two words", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return tokenizer


def byte_fallback() -> Tokenizer:
    """The Llama 2 shape: ▁ for spaces, <0x..> for bytes outside the vocabulary, leading space stripped."""
    pieces = [BOS, EOS, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdehlorw", "▁hello", "▁w"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=[],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([BOS, EOS])
    return tokenizer


def save(tokenizer: Tokenizer, directory: Path, *, config: dict[str, Any] | None = None) -> Path:
    """A model directory without weights."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    files = {
        "tokenizer_config.json": {"bos_token": BOS, "eos_token": {"content": EOS}},
        "config.json": {"max_position_embeddings": 256, "eos_token_id": 1} | (config or {}),
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content))
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return directory
