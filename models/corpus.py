"""Python source text of the standard library and the installed packages, split by path hash.

The text is whatever the running interpreter has installed, so two machines with the same
dependencies see the same files. A file is held out when the hash of its relative path says
so; no file depends on another for that, and adding a package moves no file across.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.tokenizer import SPECIAL_TOKENS

STDLIB = "stdlib"
SITE_FOLDERS = frozenset({"site-packages", "dist-packages"})
VENDORED = frozenset({"_vendor", "vendor", "_vendored"})
HELD_OUT_ONE_IN = 64
MAX_FILE_BYTES = 160_000
MAX_MEAN_LINE_BYTES = 90
LONG_LINE = 40
PACKAGE_CAP_BYTES = 8_000_000
STDLIB_CAP_BYTES = 16_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One Python file: `name` is package-relative and stable across machines."""

    name: str
    package: str
    text: str

    @property
    def num_bytes(self) -> int:
        """Size in UTF-8 bytes."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Training and held-out files; disjoint in names and in contents."""

    train: tuple[SourceFile, ...]
    held_out: tuple[SourceFile, ...]


def path_digest(name: str) -> int:
    """Stable 64-bit hash of a relative path."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def is_held_out(name: str) -> bool:
    """Whether the file of this relative path is never trained on."""
    return path_digest(name) % HELD_OUT_ONE_IN == 0


def is_prose(text: str) -> bool:
    """Whether a text reads like hand-written source and not like a data table."""
    size = len(text.encode())
    if any(marker in text for marker in SPECIAL_TOKENS):
        return False
    if not 200 <= size <= MAX_FILE_BYTES:
        return False
    digits = sum(character.isdigit() for character in text)
    return size / (text.count("\n") + 1) <= MAX_MEAN_LINE_BYTES and digits <= 0.12 * size


def read_source(path: Path) -> str | None:
    """Text of a file, None when it is not UTF-8 or not worth training on."""
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        return None
    return text if text.isascii() and is_prose(text) else None


def source_paths() -> Iterator[tuple[str, str, Path]]:
    """(name, package, path) of every Python file, vendored copies left out."""
    folders = sysconfig.get_paths()
    for label in ("stdlib", "purelib"):
        root = Path(folders[label])
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).parts
            if VENDORED.intersection(parts) or (label == "stdlib" and parts[0] in SITE_FOLDERS):
                continue
            package = STDLIB if label == "stdlib" else parts[0]
            yield "/".join((label, *parts)), package, path


def read_files() -> Iterator[SourceFile]:
    """Readable files in order of their path hash, first of each identical content."""
    seen: set[bytes] = set()
    for name, package, path in sorted(source_paths(), key=lambda item: path_digest(item[0])):
        text = read_source(path)
        if text is None:
            continue
        content = hashlib.sha256(text.encode()).digest()
        if content not in seen:
            seen.add(content)
            yield SourceFile(name=name, package=package, text=text)


def cap_packages(files: Iterable[SourceFile]) -> Iterator[SourceFile]:
    """Files until their package has used up its share of bytes."""
    used: dict[str, int] = {}
    for file in files:
        total = used.get(file.package, 0) + file.num_bytes
        cap = STDLIB_CAP_BYTES if file.package == STDLIB else PACKAGE_CAP_BYTES
        if total <= cap:
            used[file.package] = total
            yield file


def load_corpus() -> Corpus:
    """Read, deduplicate, cap and split everything installed here."""
    files = tuple(cap_packages(read_files()))
    return Corpus(
        train=tuple(file for file in files if not is_held_out(file.name)),
        held_out=tuple(file for file in files if is_held_out(file.name)),
    )


def seen_line_share(corpus: Corpus) -> float:
    """Share of the held-out lines of some length that also occur in a training file."""
    known = {hash(line) for file in corpus.train for line in long_lines(file)}
    lines = [hash(line) for file in corpus.held_out for line in long_lines(file)]
    return sum(line in known for line in lines) / max(1, len(lines))


def long_lines(file: SourceFile) -> Iterator[str]:
    """Stripped lines of at least 40 characters."""
    return (line for line in map(str.strip, file.text.splitlines()) if len(line) >= LONG_LINE)
