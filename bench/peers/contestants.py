"""Who takes part: the running stack, and each peer as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.local import LocalStack
from bench.peers.result import Answer
from bench.settings import inherited_environment
from shared.errors import AdaServeError

HERE = Path(__file__).resolve().parent
Depth = int | str | None


class PeerError(AdaServeError):
    """A peer that cannot be run here, or failed."""


class Contestant(Protocol):
    """Decodes all prompts at once, greedily, ``num_tokens`` each."""

    name: str
    speculates: bool
    depth: Depth

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> Answer: ...


@dataclass(slots=True)
class Ours:
    """A client of the stack: HTTP, gateway and Redis are within its time."""

    name: str
    stack: LocalStack
    speculates: bool
    depth: Depth = None

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> Answer:
        def complete(prompt: Sequence[int]) -> list[int]:
            body = {
                "prompt": list(prompt),
                "max_tokens": num_tokens,
                "temperature": 0,
                "ignore_eos": True,
                "return_token_ids": True,
                "adaserve": {"speculation": {"enabled": self.speculates}},
            }
            tokens: list[int] = self.stack.complete(body)["choices"][0]["token_ids"]
            return tokens

        with ThreadPoolExecutor(len(prompts)) as pool:
            start = time.perf_counter()
            return Answer(list(pool.map(complete, prompts)), time.perf_counter() - start)


class Process:
    """A worker that has loaded its models; `worker.py` tells the lines it speaks. Raises PeerError."""

    def __init__(self, command: Sequence[str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command,
            env=inherited_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        try:
            self.versions: dict[str, str] = self._read()["ready"]
        except BaseException:
            self.stop()
            raise

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def stop(self) -> None:
        """End of input ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b"{"):  # libraries print too
                answer: dict[str, Any] = json.loads(line)
                if "error" in answer:
                    raise PeerError(answer["error"])
                return answer
        self._process.wait()
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise PeerError(f"ended with {self._process.returncode}: {last[0][:300]}")


@dataclass(slots=True)
class Peer:
    """One way to use a worker."""

    name: str
    process: Process
    speculates: bool = False
    depth: Depth = None

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> Answer:
        question = {"prompts": [list(prompt) for prompt in prompts], "tokens": num_tokens, "depth": self.depth}
        answer = self.process.ask(question)
        return Answer(answer["tokens"], answer["seconds"])


def python_worker(python: str | Path, kind: str, target: Path, draft: Path, threads: int) -> Process:
    """`worker.py` by that Python. Raises PeerError."""
    settings = {"target": str(target), "draft": str(draft), "threads": threads}
    return Process([str(python), str(HERE / "worker.py"), kind, json.dumps(settings)])


def llama_worker(node: str, modules: Path, target: Path, draft: Path, threads: int) -> Process:
    """`llama_worker.mjs` by node. Raises PeerError."""
    settings = {"target": str(target / "model.gguf"), "draft": str(draft / "model.gguf"), "threads": threads}
    return Process([node, str(HERE / "llama_worker.mjs"), str(modules), json.dumps(settings)])


def own_python() -> str:
    """`transformers` runs in the release that AdaServe itself uses."""
    return sys.executable
