"""Which models the local stack serves, checked before anything starts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from shared.errors import ModelError
from shared.tokenizer import load_tokenizer


def embedded(role: str) -> str:
    """Directory of the embedded `target` or `draft`."""
    spec = find_spec("models")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path("models")
    return str(folder / role)


def checked(choice: str, option: str) -> str:
    """`choice` as the services get it: an absolute directory, or a hub id unchanged.

    Raises ModelError when it names a directory (it exists, or is written as a path) without a config.json.
    """
    path = Path(choice).expanduser()
    if not path.exists() and not choice.startswith((".", "/", "~")):
        return choice
    try:
        (path / "config.json").read_bytes()
    except OSError as error:
        raise ModelError(f"{option} {choice}: no readable config.json in it ({error.strerror})") from None
    return str(path.resolve())


def require_same_tokens(target: str, draft: str) -> None:
    """Raises ModelError naming the first token id that means another token in the draft model.

    Such a pair would run, but never speculate: the verifier ignores a drafter of another token map. Padded
    embedding sizes may differ; they are not in the tokenizer.
    """
    difference = load_tokenizer(target).first_difference(load_tokenizer(draft).token_map)
    if difference is not None:
        raise ModelError(f"--target {target} and --draft {draft} do not share their tokens: {difference}")
