"""Which models the local stack serves, checked before anything starts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from shared.errors import ModelError


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
