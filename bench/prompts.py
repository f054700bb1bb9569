"""Prompts for benchmarks: pieces of the standard library's source, found on any machine, chosen by a seed."""

from __future__ import annotations

import random
import sysconfig
from functools import cache
from pathlib import Path


@cache
def _sources() -> tuple[str, ...]:
    folder = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in folder.glob("*.py") if 4_000 < path.stat().st_size < 200_000)
    return tuple(path.read_text(encoding="utf-8", errors="ignore") for path in files)


def source_text(num_chars: int, *, seed: int | str) -> str:
    """One piece of exactly that many characters that begins a line; files follow each other as needed."""
    chance = random.Random(seed)
    text = ""
    while not text.strip():  # the beginning of an empty or deeply indented line, for another try
        source = chance.choice(_sources())
        text = source[source.find("\n", chance.randrange(len(source))) + 1 :][:num_chars]
    while len(text) < num_chars:
        text += chance.choice(_sources())
    return text[:num_chars]


def source_prompts(count: int, *, seed: int = 0, min_chars: int = 20, max_chars: int = 600) -> list[str]:
    """``count`` pieces that begin at a line's start, of varied length."""
    chance = random.Random(seed)
    prompts: list[str] = []
    while len(prompts) < count:
        source = chance.choice(_sources())
        start = source.find("\n", chance.randrange(len(source))) + 1
        piece = source[start : start + chance.randint(min_chars, max_chars)]
        if len(piece.strip()) >= min_chars // 2:
            prompts.append(piece)
    return prompts
