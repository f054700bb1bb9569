"""What `make peers` installs for the peers, and the pair in their formats. What is missing is said by name."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from bench.peers.contestants import HERE, PeerError, Process, llama_worker, own_python, python_worker
from bench.settings import inherited_environment
from models.paths import CACHE


@dataclass(frozen=True, slots=True)
class Pair:
    """Directories in the format of Hugging Face, and the threads that each contestant may use."""

    target: Path
    draft: Path
    threads: int


@dataclass(frozen=True, slots=True)
class Environment:
    """``folder`` has `peers`, a Python environment, and `peers-node`, a folder with node modules."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "peers" / "bin" / "python"

    @property
    def modules(self) -> Path:
        return self.folder / "peers-node" / "node_modules"

    def transformers(self, pair: Pair) -> Process:
        return python_worker(own_python(), "transformers", pair.target, pair.draft, pair.threads)

    def openvino(self, pair: Pair) -> Process:
        """Raises PeerError."""
        target, draft = (self._converted("openvino", path) for path in (pair.target, pair.draft))
        return python_worker(self.python, "openvino", target, draft, pair.threads)

    def llama(self, pair: Pair) -> Process:
        """Raises PeerError."""
        node = shutil.which("node")
        if node is None or not (self.modules / "node-llama-cpp").is_dir():
            raise PeerError(f"{self.modules} has no node-llama-cpp, or there is no node: `make peers` installs it")
        vocabulary = json.loads((pair.target / "config.json").read_text())["vocab_size"]
        target = self._converted("gguf", pair.target)
        draft = self._converted("gguf", pair.draft, vocabulary)
        return llama_worker(node, self.modules, target, draft, pair.threads)

    @property
    def starts(self) -> dict[str, Callable[[Pair], Process]]:
        """By the peer's name."""
        return {"transformers": self.transformers, "OpenVINO": self.openvino, "llama.cpp": self.llama}

    def _converted(self, kind: str, source: Path, vocabulary: int | None = None) -> Path:
        if not self.python.exists():
            raise PeerError(f"{self.python} is missing: `make peers` installs it")
        size = [] if vocabulary is None else [str(vocabulary)]
        destination = CACHE / "peers" / "-".join([source.name, digest(source), kind, *size])
        command = [self.python, HERE / "convert.py", kind, source, destination, *size]
        done = subprocess.run(
            [str(part) for part in command],
            env=inherited_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PeerError(f"{source.name} is not converted: {done.stderr.strip().splitlines()[-1][:300]}")
        return destination


def digest(source: Path) -> str:
    """Of the weights: a model trained anew is converted anew."""
    found = blake2b(digest_size=4)
    for path in sorted(source.glob("*.safetensors")):
        with path.open("rb") as file:
            while piece := file.read(1 << 24):
                found.update(piece)
    return found.hexdigest()
