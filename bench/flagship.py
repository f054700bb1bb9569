"""The flagship property: the running system draws the tokens of plain decoding, at any temperature.

    python -m bench.flagship [--prompts 300] [--tokens 48] [--dtypes float64 float32] [--ranks 1]
                             [--device cpu] [--json]

Every completion goes over REST through four processes, with mixed SLOs and 1 to 32 requests at a time; the other
side is `bench.reference`. The requests have filters, penalties and biases in turn. A float64 target must show no
difference. In float32 a stream may differ where the two best candidates tie within ten times the largest logit
difference that packing causes in this run, in at most 1 % of streams. At temperature 0 and without bias and
penalties both must also equal `transformers`' own `generate`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from transformers import PreTrainedModel

from bench.local import TARGET, LocalStack, local_stack
from bench.prompts import source_prompts
from bench.reference import Sampling, decode, perturbed
from bench.ties import is_tie, packing_error
from shared.inference.loading import load_model
from shared.tokenizer import load_tokenizer

TEMPERATURES = (0.0, 0.7, 1.0)
CONCURRENCY = (1, 2, 4, 8, 16, 32)
# What requests ask for besides, in turn: nothing, then one field each, then many.
PARAMETERS: tuple[dict[str, Any], ...] = (
    {},
    {"presence_penalty": 1.0},
    {"frequency_penalty": 0.6},
    {"repetition_penalty": 1.3},
    {"logit_bias": {10: -100.0, 199: 4.0, 300: 3.0}},
    {"top_k": 20},
    {"top_p": 0.8},
    {"min_p": 0.05},
    {
        "presence_penalty": -0.5,
        "frequency_penalty": 0.3,
        "repetition_penalty": 0.9,
        "logit_bias": {32: 2.0},
        "top_p": 0.95,
        "min_p": 0.01,
    },
)
TPOT_TARGETS = (None, 6.0, 2.0, 1.2)  # times the zero-load latency; None is best effort
MAX_TIED_SHARE = 0.01
KV_MEMORY_MB = "256"  # of both models: on a GPU they share its memory


@dataclass(frozen=True, slots=True)
class Stream:
    """One completion to compare."""

    prompt: str
    sampling: Sampling
    tpot: float | None  # times the zero-load latency

    def body(self, num_tokens: int, zero_load_ms: float) -> dict[str, Any]:
        """The REST request."""
        slo = {} if self.tpot is None else {"slo": {"tpot_ms": self.tpot * zero_load_ms}}
        return {
            "prompt": self.prompt,
            "max_tokens": num_tokens,
            "temperature": self.sampling.temperature,
            "seed": self.sampling.seed,
            "top_k": self.sampling.top_k,
            "top_p": self.sampling.top_p,
            "min_p": self.sampling.min_p,
            "presence_penalty": self.sampling.presence_penalty,
            "frequency_penalty": self.sampling.frequency_penalty,
            "repetition_penalty": self.sampling.repetition_penalty,
            "logit_bias": {str(token): bias for token, bias in self.sampling.logit_bias.items()},
            "return_token_ids": True,
            "adaserve": slo,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """One dtype's outcome. ``unequal`` counts differences that are no ties; it must be 0."""

    dtype: str
    streams: int
    tokens: int
    tied: int
    unequal: int
    unequal_to_generate: int
    packing_error: float
    accepted_per_step: float

    @property
    def holds(self) -> bool:
        """Whether the property was shown."""
        allowed = 0.0 if self.dtype == "float64" else max(1.0, MAX_TIED_SHARE * self.streams)
        return self.unequal == 0 and self.unequal_to_generate == 0 and self.tied <= allowed


def streams(num_prompts: int) -> list[Stream]:
    """Every prompt at every temperature, with its own seed, SLOs and parameters in turn."""
    return [
        Stream(
            prompt,
            Sampling(
                seed=1000 * index + rank, temperature=value, **PARAMETERS[(index + 4 * rank) % len(PARAMETERS)]
            ),
            TPOT_TARGETS[(index + rank) % len(TPOT_TARGETS)],
        )
        for index, prompt in enumerate(source_prompts(num_prompts))
        for rank, value in enumerate(TEMPERATURES)
    ]


def served(stack: LocalStack, wanted: Sequence[Stream], num_tokens: int) -> list[dict[str, Any]]:
    """The system's answers, in waves of 1 to 32 at a time."""
    answers: list[dict[str, Any]] = []
    zero_load_ms = stack.zero_load_ms()
    waves = 0
    while len(answers) < len(wanted):
        size = CONCURRENCY[waves % len(CONCURRENCY)]
        waves += 1
        batch = wanted[len(answers) : len(answers) + size]
        with ThreadPoolExecutor(size) as pool:
            answers += pool.map(lambda stream: stack.complete(stream.body(num_tokens, zero_load_ms)), batch)
    return answers


def compare(
    dtype: str,
    wanted: Sequence[Stream],
    num_tokens: int,
    console: Console,
    *,
    ranks: int = 1,
    device: str = "cpu",
) -> Verdict:
    """Run the system with a target of this dtype on so many ranks, then the reference, in one process on a CPU."""
    engine = {"DEVICE": device, "KV_MEMORY_MB": KV_MEMORY_MB}
    settings = {"verifier": {"DTYPE": dtype, "TENSOR_PARALLEL": str(ranks), **engine}, "drafter": engine}
    with local_stack(settings) as stack:
        console.print(f"{dtype}: {len(wanted)} completions through the running system …")
        answers = served(stack, wanted, num_tokens)
    torch.set_num_threads(1)  # with two, a tiny model waits ten times as long for a busy neighbour
    model = load_model(TARGET, device="cpu", dtype=dtype)
    error = packing_error(dtype, device)
    eos = load_tokenizer(TARGET).eos_token_ids
    tied = unequal = unequal_to_generate = 0
    pairs = list(zip(wanted, answers, strict=True))
    for stream, answer in track(pairs, f"{dtype}: reference", console=console):
        prompt = answer["choices"][0]["prompt_token_ids"]
        tokens = answer["choices"][0]["token_ids"]
        expected, logits = decode(
            model, prompt, stream.sampling, num_tokens, stops=lambda output: output[-1] in eos
        )
        at = first_difference(tokens, expected)
        if at is not None:
            scores = perturbed(logits[at], stream.sampling, len(prompt) + at)
            if dtype == "float32" and is_tie(scores, logits[at], stream.sampling, tokens[at], 10 * error):
                tied += 1
            else:
                unequal += 1
        elif stream.sampling.is_greedy and generated(model, prompt, num_tokens) != tokens:
            unequal_to_generate += 1
    stats = [answer["metrics"]["speculative_decoding"] for answer in answers]
    steps = sum(entry["num_spec_steps"] for entry in stats)
    return Verdict(
        dtype=dtype,
        streams=len(wanted),
        tokens=sum(len(answer["choices"][0]["token_ids"]) for answer in answers),
        tied=tied,
        unequal=unequal,
        unequal_to_generate=unequal_to_generate,
        packing_error=error,
        accepted_per_step=sum(entry["num_accepted_draft_tokens"] for entry in stats) / max(1, steps),
    )


def first_difference(tokens: Sequence[int], expected: Sequence[int]) -> int | None:
    """Index of the first token that differs; a length that differs counts where the shorter one ends."""
    if list(tokens) == list(expected):
        return None
    same = (a == b for a, b in zip(tokens, expected, strict=False))
    return next(
        (i for i, equal in enumerate(same) if not equal), min(len(tokens), len(expected), len(expected) - 1)
    )


@torch.inference_mode()
def generated(model: PreTrainedModel, prompt: Sequence[int], num_tokens: int) -> list[int]:
    """Greedy ids of transformers' own loop."""
    ids = torch.tensor([list(prompt)])
    output: Any = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=num_tokens
    )
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the property holds for every dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--dtypes", nargs="+", default=["float64", "float32"], choices=["float64", "float32"])
    parser.add_argument("--ranks", type=int, default=1, help="processes that share the target")
    parser.add_argument("--device", default="cpu", help="of target and draft; cuda is the first GPU")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    wanted = streams(options.prompts)
    verdicts = [
        compare(dtype, wanted, options.tokens, console, ranks=options.ranks, device=options.device)
        for dtype in options.dtypes
    ]
    if options.json:
        print(json.dumps([{**asdict(verdict), "holds": verdict.holds} for verdict in verdicts]))
    else:
        for verdict in verdicts:
            print(describe(verdict))
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def describe(verdict: Verdict) -> str:
    """One line for people."""
    return (
        f"{verdict.dtype}: {verdict.streams} streams, {verdict.tokens} tokens, "
        f"{verdict.accepted_per_step:.2f} drafted tokens accepted per speculative step; "
        f"different: {verdict.unequal}, near ties: {verdict.tied}, different from generate: "
        f"{verdict.unequal_to_generate}; largest logit difference by packing {verdict.packing_error:.1e} "
        f"-> {'holds' if verdict.holds else 'DOES NOT HOLD'}"
    )


if __name__ == "__main__":
    sys.exit(main())
