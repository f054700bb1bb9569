"""The tokenizer of a model directory or hub id: text to token ids and back, without torch or transformers.

Reads ``tokenizer.json`` and, where they are there, ``tokenizer_config.json``, ``special_tokens_map.json``,
``config.json``, ``generation_config.json`` and ``chat_template.jinja``, in Hugging Face's format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import tokenizers

from shared.errors import ModelError

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
)


class Tokenizer:
    """One model's token map with what belongs to it: special and end tokens, chat template, context limit.

    Safe to share between threads. ``chat_template`` is the Jinja source or None, ``context_limit`` the
    ``max_position_embeddings`` of config.json or None.
    """

    def __init__(
        self,
        backend: Any,
        *,
        bos_token: str | None = None,
        eos_token: str | None = None,
        eos_token_ids: Iterable[int] = (),
        chat_template: str | None = None,
        context_limit: int | None = None,
    ) -> None:
        backend.no_truncation()  # tokenizer.json may carry the training run's truncation and padding
        backend.no_padding()
        self.backend = backend
        self.bos_token = bos_token
        self.eos_token = eos_token
        self.chat_template = chat_template
        self.context_limit = context_limit
        self.token_map: dict[str, int] = backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(self.token_map.values(), default=-1) + 1
        own_eos = self.token_map.get(eos_token or "")
        self.eos_token_ids = frozenset(eos_token_ids) | (frozenset() if own_eos is None else {own_eos})
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids of ``text``; ``special`` adds what the model puts around a plain prompt (usually BOS)."""
        # A batch of one: unlike `encode` it lets go of Python's lock, which a long text would hold for seconds.
        [encoding] = self.backend.encode_batch_fast([text], add_special_tokens=special)
        ids: list[int] = encoding.ids
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of ``ids``; ids outside the vocabulary are ignored."""
        [text] = self.backend.decode_batch([ids], skip_special_tokens=skip_special)  # as in `encode`
        return str(text)

    def token(self, token_id: int) -> str | None:
        """The token's spelling in the vocabulary, None for an id outside of it."""
        spelling: str | None = self.backend.id_to_token(token_id)
        return spelling

    @cached_property
    def spelled(self) -> dict[int, bytes]:
        """Bytes that tokens spell, as far as somebody has looked them up (`shared.detokenizer`)."""
        return {}

    @cached_property
    def decoder_types(self) -> frozenset[str]:
        """Names of the decoding steps of tokenizer.json, for example {"ByteLevel"}."""
        decoder = json.loads(self.backend.to_str()).get("decoder") or {}
        return frozenset(step["type"] for step in decoder.get("decoders", [decoder]) if "type" in step)

    @cached_property
    def token_map_digest(self) -> str:
        """32 hex digits that are equal exactly for equal token → id maps, added tokens included."""
        digest = blake2b(digest_size=16)
        for token, token_id in sorted(self.token_map.items(), key=lambda item: (item[1], item[0])):
            spelling = token.encode("utf-8", "surrogatepass")
            digest.update(token_id.to_bytes(4, "little") + len(spelling).to_bytes(4, "little") + spelling)
        return digest.hexdigest()

    def first_difference(self, other: Mapping[str, int]) -> str | None:
        """One line about the lowest id that means another token in ``other``, None where the maps agree."""
        mine = {token_id: token for token, token_id in sorted(self.token_map.items())}
        theirs = {token_id: token for token, token_id in sorted(other.items())}
        for token_id in sorted(mine.keys() | theirs.keys()):
            here, there = mine.get(token_id), theirs.get(token_id)
            if here != there:
                return f"token id {token_id} is {_shown(here)} here and {_shown(there)} there"
        # two spellings of one id leave both inversions alike
        odd = sorted(self.token_map.items() ^ other.items())
        return f"token {odd[0][0]!r} has id {odd[0][1]} on one side only" if odd else None


def load_tokenizer(path_or_id: str | Path) -> Tokenizer:
    """The tokenizer of a directory or Hugging Face id. Raises ModelError with one line when it cannot be read."""
    folder = _directory(str(path_or_id))
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelError(f"{path_or_id}: the directory holds no tokenizer.json")
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{path_or_id}: tokenizer.json cannot be read ({_one_line(error)})") from None
    settings = _read_json(folder / "tokenizer_config.json")
    names = _read_json(folder / "special_tokens_map.json") | settings
    config = _read_json(folder / "config.json")
    generation = _read_json(folder / "generation_config.json")
    return Tokenizer(
        backend,
        bos_token=_spelling(names.get("bos_token")),
        eos_token=_spelling(names.get("eos_token")),
        eos_token_ids=_ids(generation.get("eos_token_id")) | _ids(_text_config(config, "eos_token_id")),
        chat_template=_chat_template(folder, settings),
        context_limit=_positive(_text_config(config, "max_position_embeddings")),
    )


def _directory(path_or_id: str) -> Path:
    folder = Path(path_or_id).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(f"{path_or_id}: not a directory")
    if folder.is_absolute() or path_or_id.startswith((".", "~")) or path_or_id.count("/") > 1:
        raise ModelError(f"{path_or_id}: no such directory")
    return _from_hub(path_or_id)


def _from_hub(model_id: str) -> Path:
    # imported here: a directory needs no hub client, and the import is slow
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model_id, allow_patterns=list(FILES)))
    except Exception as error:  # network, missing id, gated model: many unrelated classes
        raise ModelError(
            f"{model_id}: neither a directory nor a model that can be downloaded ({_one_line(error)})"
        ) from None


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read ({_one_line(error)})") from None
    if not isinstance(content, dict):
        raise ModelError(f"{file}: not a JSON object")
    return content


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelError(f"{file}: cannot be read ({_one_line(error)})") from None
    template = settings.get("chat_template")
    if isinstance(template, list):  # several named templates
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _text_config(config: Mapping[str, Any], name: str) -> Any:
    """A value of config.json; multi-modal models keep it in ``text_config``."""
    inner = config.get("text_config")
    return config.get(name, inner.get(name) if isinstance(inner, dict) else None)


def _spelling(token: Any) -> str | None:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _ids(value: Any) -> frozenset[int]:
    values = value if isinstance(value, list) else [value]
    return frozenset(item for item in values if type(item) is int and item >= 0)


def _positive(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _shown(token: str | None) -> str:
    return "absent" if token is None else repr(token)


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
