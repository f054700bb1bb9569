"""A cell of processes with table models (or the real pair), some of them several times, to be killed at will."""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.local import DRAFT, TARGET, LocalStack
from shared.tokenizer import load_tokenizer
from tests.requests import request
from tests.ring import plain
from tests.table_model import TableModel
from tests.tiny_tokenizers import byte_level, save

MODULES = {"verifier": "tests.faults.table_verifier", "drafter": "tests.faults.table_drafter"}
KINDS = ("verifier", "drafter", "selector", "gateway")
SPECIAL_IDS = 3
END_S = 60.0
CONTEXT = 4096


class Cell:
    """A stack whose members have a kind: ``verifier-2`` is a second verifier. ``settings`` are by kind."""

    def __init__(self, stack: LocalStack, settings: Mapping[str, Mapping[str, str]], *, is_table: bool) -> None:
        self.stack, self._settings, self._is_table = stack, settings, is_table

    def start(self, name: str) -> None:
        """Start a member, a new one too."""
        kind = kind_of(name)
        self.stack.settings = {**self.stack.settings, name: {"NAME": name, **self._settings[kind]}}
        self.stack.start(name, MODULES.get(kind, f"services.{kind}") if self._is_table else f"services.{kind}")

    def start_all(self, names: Sequence[str]) -> None:
        """Raises RuntimeError when a member does not become ready."""
        for name in names:
            self.start(name)
        self.stack.wait_ready(*names)

    def signal(self, name: str, number: int) -> None:
        self.stack.processes[name].send_signal(number)

    def end_of(self, name: str) -> int:
        """The exit code of a member that was told to end. Raises TimeoutExpired."""
        return self.stack.processes[name].wait(END_S)

    @property
    def gateways(self) -> list[int]:
        """Their ports."""
        return [port for name, port in self.stack.ports.items() if name.startswith("gateway")]

    @property
    def names(self) -> list[str]:
        return list(self.stack.settings)


def kind_of(name: str) -> str:
    return name.partition("-")[0]


@contextmanager
def cell(
    redis_url: str,
    *,
    num_verifiers: int,
    num_others: int = 1,
    is_table: bool = True,
    dtype: str = "float64",
    options: Mapping[str, Mapping[str, str]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Cell]:
    """Started and ready; killed at the end.

    ``redis_url`` may be a proxy's, ``dtype`` is the real target's, ``options`` are settings by kind,
    ``environment`` other variables of all.
    """
    others = ("selector", "drafter", "gateway")
    members = [f"{kind}-{n}" for kind in others for n in range(num_others)] if num_others != 1 else list(others)
    with tempfile.TemporaryDirectory(prefix="ada-cell-") as folder:
        limits = {"max_position_embeddings": CONTEXT}
        tiny = str(save(byte_level(), Path(folder) / "tokenizer", config=limits))
        target, draft = (tiny, tiny) if is_table else (TARGET, DRAFT)
        settings = {"gateway": {"TARGET": target}, "verifier": {"TARGET": target}, "drafter": {"DRAFT": draft}}
        if not is_table:
            settings["verifier"]["DTYPE"] = dtype
        wanted = {kind: {**settings.get(kind, {}), **(options or {}).get(kind, {})} for kind in KINDS}
        stack = LocalStack(redis_url, Path(folder), {}, environment or {})
        try:
            opened = Cell(stack, wanted, is_table=is_table)
            opened.start_all([*members, *(f"verifier-{n}" for n in range(num_verifiers))])
            yield opened
        finally:
            for name in stack.processes:
                stack.kill(name)
            stack.stop()


def bodies(seed: int, *, max_tokens: int) -> Iterator[dict[str, Any]]:
    """Requests for a table cell, without end."""
    chance = random.Random(seed)
    for number in itertools.count():
        yield {
            "prompt": [chance.randrange(SPECIAL_IDS, 256) for _ in range(chance.randint(1, 40))],
            "max_tokens": chance.randint(max_tokens // 2, max_tokens),
            "temperature": chance.choice((0, 0.7, 1)),
            "seed": number,
            "ignore_eos": True,
        }


def pair_bodies() -> list[dict[str, Any]]:
    """Requests for the embedded models."""
    texts = ("def main(", "import os", "class Reader:", "for line in", "def parse(text)", "return sorted(")
    tokenizer = load_tokenizer(TARGET)
    return [
        {
            "prompt": tokenizer.encode(text, special=True),
            "max_tokens": 90,
            "temperature": number % 2,
            "seed": number,
            "ignore_eos": True,
        }
        for number, text in enumerate(texts * 2)
    ]


class PlainDecoding:
    """What a table cell must answer."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._model = TableModel(load_tokenizer(str(save(byte_level(), Path(folder)))).vocab_size)

    def __call__(self, body: Mapping[str, Any]) -> Sequence[int]:
        asked = request(
            1,
            prompt=body["prompt"],
            max_tokens=body["max_tokens"],
            temperature=float(body["temperature"]),
            seed=body["seed"],
            ignore_eos=True,
        )
        return plain(self._model, asked)
