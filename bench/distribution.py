"""Whether speculation in bfloat16 draws as plain decoding in bfloat16 does.

    python -m bench.distribution [--samples 2000] [--tokens 8] [--prompts 4] [--dtype bfloat16] [--device cpu]
                                 [--json]

In float32 the two draw the same tokens (`bench.flagship`). In bfloat16 a logit depends on how many tokens share
the pass, so tokens may differ, but not their distribution. Both sides complete the same prompts at temperature 1:
one by the verifier's and the drafter's own code (`bench.speculated`), with a seed for each sample; the other by
stock `transformers` (`bench.plain_samples`). What is compared (`bench.two_samples`) is which tokens were drawn,
alone and after each other, and how likely stock finds the outputs. Equal samplers are called different in at most
one run of a thousand. The same test must tell speculation at temperature 1.1 from plain decoding at 1, else it
could not fail.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle

import numpy as np
import numpy.typing as npt
import torch

from bench.plain_samples import Plain
from bench.prompts import source_prompts
from bench.speculated import Speculated, longest_output
from bench.two_samples import of_means, of_tokens, together
from models.paths import DRAFT, TARGET
from shared.inference.loading import DTYPES, load_model
from shared.tokenizer import load_tokenizer

Int32 = npt.NDArray[np.int32]
Float64 = npt.NDArray[np.float64]

ALPHA = 1e-3  # share of runs that call equal samplers different
WRONG = 1.1  # temperature that must be told from 1
DEALS = 7999  # two tests' smallest p-value is then a quarter of ALPHA
BATCHES = (4, 16, 32)  # requests that share passes, in turn: logits differ with it
PROMPT_TOKENS = 24
FIRST_WRONG_SEED = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Of one dtype. ``samples`` are of each side and prompt."""

    dtype: str
    device: str
    samples: int
    tokens: int
    accepted_per_step: float
    p_value: float
    p_value_of_wrong: float

    @property
    def holds(self) -> bool:
        """No difference was found, and a sampler that is wrong was found out."""
        return self.p_value_of_wrong < ALPHA <= self.p_value

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.dtype} on {self.device}: {self.samples} samples of {self.tokens} tokens a side and prompt, "
            f"{self.accepted_per_step:.2f} drafted tokens accepted per step; p = {self.p_value:.4f}, at "
            f"temperature {WRONG:g} in place of 1 {self.p_value_of_wrong:.4f}; different is below {ALPHA:g} "
            f"-> {'holds' if self.holds else 'DOES NOT HOLD'}"
        )


@dataclass(frozen=True, slots=True)
class Samples:
    """Of one prompt: outputs of both sides, [n, tokens], and the reference's log-probability of each, [n]."""

    one: Int32
    other: Int32
    likely_one: Float64
    likely_other: Float64


def measure(
    *,
    samples: int,
    tokens: int,
    prompts: int,
    dtype: str = "bfloat16",
    device: str = "cpu",
    progress: Callable[[str], object] = lambda _: None,
) -> Verdict:
    """Both sides with the embedded models. Raises ModelError for a device that is not there."""
    tokenizer = load_tokenizer(TARGET)
    texts = [
        tokenizer.encode(text, special=False)[:PROMPT_TOKENS]
        for text in source_prompts(prompts, seed=3, min_chars=6 * PROMPT_TOKENS)
    ]
    speculated = Speculated(
        str(TARGET),
        str(DRAFT),
        device=device,
        dtype=dtype,
        batch=max(BATCHES),
        context=PROMPT_TOKENS + longest_output(tokens),
        vocab_size=tokenizer.vocab_size,
    )
    stock, chance = load_model(str(TARGET), device=device, dtype=dtype), np.random.default_rng(5)
    right: list[Samples] = []
    wrong: list[Samples] = []
    for number, prompt in enumerate(texts):
        progress(f"prompt {number + 1} of {prompts}: {samples} samples a side")
        reference = Plain(stock, prompt, tokenizer.vocab_size)
        expected = reference.draw(samples, tokens, chance)
        for temperature, found, first in ((1.0, right, 0), (WRONG, wrong, FIRST_WRONG_SEED)):
            sampled = drawn(speculated, prompt, first + number * samples, samples, tokens, temperature)
            found.append(Samples(sampled, expected, reference.log_probs(sampled), reference.log_probs(expected)))
    return Verdict(
        dtype=dtype,
        device=device,
        samples=samples,
        tokens=tokens,
        accepted_per_step=speculated.accepted / speculated.steps,
        p_value=difference(right, chance),
        p_value_of_wrong=difference(wrong, chance),
    )


def difference(found: Sequence[Samples], chance: np.random.Generator) -> float:
    """The p-value of both tests: of which tokens were drawn, and of how likely the reference finds them."""
    tokens = of_tokens([(each.one, each.other) for each in found], chance, DEALS)
    likely = of_means([(each.likely_one, each.likely_other) for each in found], chance, DEALS)
    return together([tokens, likely])


def drawn(
    speculated: Speculated, prompt: Sequence[int], first_seed: int, samples: int, tokens: int, temperature: float
) -> Int32:
    """Speculation's, [samples, tokens], in batches of all sizes."""
    return np.concatenate(
        [
            speculated.complete(prompt, seeds, tokens, temperature)
            for seeds in _batches(range(first_seed, first_seed + samples))
        ]
    )


def _batches(seeds: range) -> Iterator[range]:
    sizes, start = cycle(BATCHES), 0
    while start < len(seeds):
        size = next(sizes)
        yield seeds[start : start + size]
        start += size


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000, help="of each side, prompt by prompt")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    verdict = measure(
        samples=options.samples,
        tokens=options.tokens,
        prompts=options.prompts,
        dtype=options.dtype,
        device=options.device,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json.dumps({**asdict(verdict), "holds": verdict.holds}) if options.json else verdict.describe())
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main())
