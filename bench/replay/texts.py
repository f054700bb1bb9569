"""What a trace's prompt ids stand for: a file of prompts."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import IO

from shared.errors import TraceError

MAX_PROMPT_CHARS = 1_000_000


def read_prompts(path: Path | str) -> dict[str, str]:
    """Texts by id, from lines of JSON with `prompt_id` and `prompt`, plain or `.gz`. Raises TraceError."""
    path = Path(path)
    texts: dict[str, str] = {}
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    name, text = _prompt(f"{path}, line {number}", line)
                    texts[name] = text
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: not text in UTF-8, or its compression is broken ({error})") from None
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not texts:
        raise TraceError(f"{path}: has no prompts; it must have at least one")
    return texts


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _prompt(where: str, line: str) -> tuple[str, str]:
    try:
        entry = json.loads(line)
    except ValueError:
        raise TraceError(f"{where}: not JSON") from None
    values = (entry.get("prompt_id"), entry.get("prompt")) if isinstance(entry, dict) else (None, None)
    for field, value in zip(("prompt_id", "prompt"), values, strict=True):
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_PROMPT_CHARS:
            raise TraceError(f"{where}: {field} must be a text of 1 to {MAX_PROMPT_CHARS} characters")
    return str(values[0]), str(values[1])
