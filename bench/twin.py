"""A realistically expensive target without a download: the embedded target enlarged, with the same outputs.

    python -m bench.twin [--out DIR] [--layers 12 --hidden 768 --mlp 3072 --vocab 32000 --seed 0 --dtype float32]
                         [--measure] [--json]

Writes a Llama of 155 M parameters (131 M of them multiplied for every token, the others an embedding that is
looked up) with the embedded target's tokenizer and chat template, so that the embedded draft serves it too, and
compares it with the embedded target: logits and greedy continuations in float64 and float32. `bench.enlargement`
tells how it works. The default folder lies under models/.cache, which git ignores; a twin that is there already is
not written again. ``--measure`` adds the speed of both (`bench.twin_speed`).
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bench.enlargement import Dtype, TwinShape, enlarge
from bench.flagship import generated
from bench.prompts import source_prompts
from bench.twin_speed import print_speed
from models.paths import CACHE, TARGET, replaced_directory
from shared.errors import AdaServeError, ModelError
from shared.inference.loading import load_model
from shared.tokenizer import FILES, load_tokenizer

RECORD = "twin.json"
CONSTRUCTION = 1  # raised when the same shape gives other files
TOLERANCE = {"float64": 1e-9, "float32": 1e-3}  # of a logit
NUM_PROMPTS = 3
PROMPT_TOKENS = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How a twin compares with its source in one dtype."""

    dtype: Dtype
    logit_difference: float  # largest, over ids of the source
    padding_gap: float  # lowest logit of the source's ids minus highest of the others
    same_greedy: int  # continuations, of NUM_PROMPTS

    @property
    def holds(self) -> bool:
        """Whether the outputs are the same. Rounding may turn a tie of two tokens in float32, never in float64."""
        same = self.dtype != "float64" or self.same_greedy == NUM_PROMPTS
        return same and self.logit_difference <= TOLERANCE[self.dtype] and self.padding_gap > 0.0


def cached_twin(shape: TwinShape | None = None) -> Path:
    """The directory of the embedded target's twin, written if it is not there. Raises ModelError."""
    shape = shape or TwinShape()
    return build_twin(TARGET, default_directory(shape), shape)


def default_directory(shape: TwinShape) -> Path:
    """Where a twin of this shape is kept."""
    sizes = f"{shape.layers}x{shape.hidden}x{shape.mlp}x{shape.vocab}"
    return CACHE / f"twin-{sizes}-{shape.dtype}-{shape.seed}"


def build_twin(source: Path, destination: Path, shape: TwinShape) -> Path:
    """Write the twin of ``source``, unless ``destination`` holds just this one; returns ``destination``.

    It appears complete or not at all, in place of another twin. Raises ModelError for a source or a shape that
    cannot be enlarged, and for a destination that is something else.
    """
    record = {"construction": CONSTRUCTION, "source": _digest(source), "shape": asdict(shape)}
    if _record(destination) == record:
        return destination
    model = load_model(str(source), device="cpu", dtype="float64")
    config, weights = enlarge(model, shape)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with replaced_directory(destination, staging=destination.parent) as directory:
        for name in FILES:
            if name != "config.json" and (source / name).is_file():
                shutil.copyfile(source / name, directory / name)
        config.save_pretrained(directory)
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        (directory / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return destination


def _record(destination: Path) -> Any:
    """What is known of the twin that is there; None for no directory or an empty one. Raises ModelError."""
    if not destination.exists() or (destination.is_dir() and not any(destination.iterdir())):
        return None
    try:
        return json.loads((destination / RECORD).read_text())
    except (OSError, ValueError):
        raise ModelError(f"{destination}: holds no twin and is not overwritten; name another directory") from None


def _digest(source: Path) -> str:
    """Of everything a twin is made from."""
    digest = blake2b(digest_size=16)
    for path in sorted([*source.glob("*.safetensors"), *(source / name for name in FILES)]):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def count_stored(directory: Path) -> int:
    """Parameters in a directory's weights; tied ones count once."""
    total = 0
    for path in directory.glob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            names = list(weights.keys())
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
    return total


def count_multiplied(directory: Path) -> int:
    """Parameters that every token is multiplied by: all, less an embedding that is only looked up."""
    config = json.loads((directory / "config.json").read_text())
    looked_up = 0 if config["tie_word_embeddings"] else config["vocab_size"] * config["hidden_size"]
    return count_stored(directory) - int(looked_up)


def compare(source: Path, twin: Path, dtype: Dtype, *, num_tokens: int = 24) -> Likeness:
    """Logits of sample text and greedy continuations of ``num_tokens`` by stock transformers, from both."""
    tokenizer = load_tokenizer(source)
    prompts = [
        tokenizer.encode(text, special=False)[:PROMPT_TOKENS] for text in source_prompts(NUM_PROMPTS, seed=5)
    ]
    small = load_model(str(source), device="cpu", dtype=dtype)
    large = load_model(str(twin), device="cpu", dtype=dtype)
    differences, gaps = zip(*(_compare_logits(small, large, prompt) for prompt in prompts), strict=True)
    same = [generated(small, prompt, num_tokens) == generated(large, prompt, num_tokens) for prompt in prompts]
    return Likeness(dtype=dtype, logit_difference=max(differences), padding_gap=min(gaps), same_greedy=sum(same))


@torch.inference_mode()
def _compare_logits(small: Any, large: Any, prompt: Sequence[int]) -> tuple[float, float]:
    expected = small(torch.tensor([prompt])).logits[0]  # [T, vocab]
    logits = large(torch.tensor([prompt])).logits[0]
    own, padding = logits[:, : expected.shape[1]], logits[:, expected.shape[1] :]
    gap = float((own.amin(1) - padding.amax(1)).min()) if padding.shape[1] else float("inf")
    return float((own - expected).abs().max()), gap


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the twin gives the same outputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="directory to write; by default one under models/.cache")
    for field in fields(TwinShape):
        kind = str if field.name == "dtype" else int
        parser.add_argument(f"--{field.name}", type=kind, default=field.default, help="default: %(default)s")
    parser.add_argument("--measure", action="store_true", help="also measure the speed of both models")
    parser.add_argument("--json", action="store_true", help="the comparison as JSON")
    options = parser.parse_args(arguments)
    shape = TwinShape(**{field.name: getattr(options, field.name) for field in fields(TwinShape)})
    try:
        twin = build_twin(TARGET, options.out or default_directory(shape), shape)
    except (AdaServeError, OSError) as error:
        parser.error(str(error))
    likenesses = [compare(TARGET, twin, dtype) for dtype in ("float64", "float32")]
    print(_as_json(twin, likenesses) if options.json else describe(twin, likenesses))
    if options.measure:
        print_speed(TARGET, twin)
    return 0 if all(likeness.holds for likeness in likenesses) else 1


def describe(twin: Path, likenesses: Sequence[Likeness]) -> str:
    """A few lines for people."""
    sizes = [
        f"{name}: {count_stored(path):,} parameters, {count_multiplied(path):,} multiplied for each token"
        for name, path in (("embedded target", TARGET), (f"twin in {twin}", twin))
    ]
    outcomes = [
        f"{likeness.dtype}: largest logit difference {likeness.logit_difference:.1e}, padding at least "
        f"{likeness.padding_gap:.1e} below, greedy continuations equal {likeness.same_greedy}/{NUM_PROMPTS} "
        f"-> {'same outputs' if likeness.holds else 'NOT THE SAME OUTPUTS'}"
        for likeness in likenesses
    ]
    return "\n".join([*sizes, *outcomes])


def _as_json(twin: Path, likenesses: Sequence[Likeness]) -> str:
    return json.dumps(
        {
            "directory": str(twin),
            "parameters": count_stored(twin),
            "multiplied": count_multiplied(twin),
            "likeness": [{**asdict(likeness), "holds": likeness.holds} for likeness in likenesses],
        }
    )


if __name__ == "__main__":
    sys.exit(main())
