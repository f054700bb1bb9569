"""How far typical acceptance (services/verifier/typical.py) takes answers from the exact ones, and what it gains.

    python -m bench.typical [--target DIR --draft DIR] [--prompts 24] [--tokens 48] [--temperature 1.0]
                            [--thresholds 0.01 0.03 0.09 0.3 1.0] [--json]

Every prompt is completed with the same seed: exactly, then with each threshold. The selector has the paper's
policy, which speculates whatever it costs, so that there is something to accept. "Identical answers" have the same
tokens; "agreed tokens" is the share of all that come before an answer's first difference; "tokens a step" is the
acceptance length, with the token that the target adds itself, over the "steps" that verified drafted tokens. Of
few steps a row says little: on a busy machine the drafter is late, and what is decoded plainly is exact.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.local import DRAFT, TARGET, LocalStack, local_stack
from bench.prompts import source_prompts

EXACT = "exact"
PROMPT_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer's tokens, and its steps with drafted tokens that were verified, and how many of these held."""

    tokens: list[int]
    steps: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Row:
    """Of one threshold, None for exact; shares are of 1."""

    threshold: float | None
    identical: float
    agreed: float
    steps: int
    tokens_a_step: float


def row(threshold: float | None, exact: Sequence[Answered], found: Sequence[Answered]) -> Row:
    """What became of the same prompts."""
    pairs = [(one.tokens, other.tokens) for one, other in zip(exact, found, strict=True)]
    num_tokens = sum(len(one) for one, _ in pairs)
    steps = sum(one.steps for one in found)
    return Row(
        threshold,
        identical=sum(one == other for one, other in pairs) / len(pairs),
        agreed=sum(agreement(one, other) for one, other in pairs) / num_tokens,
        steps=steps,
        tokens_a_step=1 + sum(one.accepted for one in found) / steps if steps else 1.0,
    )


def agreement(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens before the first difference."""
    same = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        same += 1
    return same


def policy(thresholds: Sequence[float]) -> str:
    """A file with a tenant for each threshold."""
    lines = ["classes: {all: {}}", "tenants:", f"  {EXACT}: {{classes: [all], default: all}}"]
    for index, threshold in enumerate(thresholds):
        allowed = f"[exact, {{typical: {{threshold: {threshold}}}}}]"
        lines.append(f"  typical-{index}: {{classes: [all], default: all, acceptance: {allowed}}}")
    return "\n".join(lines) + "\n"


def answered(
    stack: LocalStack, prompts: Sequence[str], tenant: str, *, tokens: int, temperature: float
) -> list[Answered]:
    """One after the other, so that batches are the same."""
    acceptance = EXACT if tenant == EXACT else "typical"
    found = []
    with httpx.Client(base_url=stack.url, timeout=300, trust_env=False) as client:
        for seed, prompt in enumerate(prompts):
            body = {
                "prompt": prompt[:PROMPT_CHARACTERS],
                "max_tokens": tokens,
                "seed": seed,
                "temperature": temperature,
                "ignore_eos": True,
                "return_token_ids": True,
                "adaserve": {"acceptance": acceptance},
            }
            answer = client.post("/v1/completions", json=body, headers={"x-adaserve-tenant": tenant})
            told: dict[str, Any] = answer.raise_for_status().json()
            assert told["metrics"]["acceptance"] == acceptance
            speculation = told["metrics"]["speculative_decoding"]
            found.append(
                Answered(
                    told["choices"][0]["token_ids"],
                    speculation["num_spec_steps"],
                    speculation["num_accepted_draft_tokens"],
                )
            )
    return found


def measure(arguments: argparse.Namespace) -> list[Row]:
    """A row for exact, and one for each threshold."""
    prompts = source_prompts(arguments.prompts, seed=1)
    ask = {"tokens": arguments.tokens, "temperature": arguments.temperature}
    with tempfile.TemporaryDirectory(prefix="ada-typical-") as folder:
        file = Path(folder) / "policy.yaml"
        file.write_text(policy(arguments.thresholds))
        settings = {"gateway": {"POLICY_FILE": str(file)}, "selector": {"POLICY": "paper"}}
        with local_stack(settings, target=arguments.target, draft=arguments.draft) as stack:
            exact = answered(stack, prompts, EXACT, **ask)
            rows = [row(None, exact, exact)]
            for index, threshold in enumerate(arguments.thresholds):
                rows.append(row(threshold, exact, answered(stack, prompts, f"typical-{index}", **ask)))
    return rows


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    lines = ["| threshold | identical answers | agreed tokens | steps | tokens a step |", "|---|---|---|---|---|"]
    for one in rows:
        name = EXACT if one.threshold is None else f"{one.threshold:g}"
        lines.append(
            f"| {name} | {one.identical:.0%} | {one.agreed:.0%} | {one.steps} | {one.tokens_a_step:.2f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.typical", description=__doc__)
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--draft", default=DRAFT)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.01, 0.03, 0.09, 0.3, 1.0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments)
    print(json.dumps([asdict(one) for one in rows]) if arguments.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
