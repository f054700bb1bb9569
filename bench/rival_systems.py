"""The systems that are compared: one stack, whose selector and requests are set up as each of them.

- ``plain``: decoding without speculation;
- ``chain4`` (any number from 1 to 8): a chain of so many drafted tokens for every request, whatever its target;
- ``paper``: the selection of the AdaServe paper;
- ``adaserve``: ours.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from bench.local import LocalStack
from shared.errors import ConfigurationError

PLAIN, PAPER, OURS = "plain", "paper", "adaserve"
NAMES = (OURS, PAPER, "chain4", PLAIN)  # compared by default
CHAIN_BUDGET = 1024  # tokens of a forward pass: more than any chains of the requests that fit a batch
PREFILL_TOKENS = 256.0  # of a forward pass, for chains: their budget is no measure of it
SPECULATION_S = 60.0
_CHAIN = re.compile(r"chain([1-8])")
_PROMPT = "def main() -> None:\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """`selector`: its ADASERVE_* variables without the prefix."""

    name: str
    selector: Mapping[str, str]
    speculation: bool = True


def system(name: str) -> System:
    """Raises ConfigurationError for one that does not exist."""
    if name in (PLAIN, OURS):
        return System(name=name, selector={"POLICY": OURS}, speculation=name != PLAIN)
    if name == PAPER:
        return System(name=name, selector={"POLICY": PAPER})
    if match := _CHAIN.fullmatch(name):
        return System(name=name, selector=_chain(match[1]))
    raise ConfigurationError(f"system {name!r}: there are {', '.join(NAMES)}, and chain1 to chain8")


def switch(stack: LocalStack, chosen: System) -> None:
    """Set the running stack up as the system. Raises RuntimeError when it does not speculate then."""
    if not chosen.speculation:
        return
    stack.restart("selector", chosen.selector)
    stack.wait_ready("selector")
    deadline = time.monotonic() + SPECULATION_S
    while not _speculates(stack):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no speculation as {chosen.name}:\n{stack.log('selector')[-2000:]}")


def _speculates(stack: LocalStack) -> bool:
    answer = stack.complete({"prompt": _PROMPT, "max_tokens": 16, "ignore_eos": True, "temperature": 0})
    return bool(answer["metrics"]["speculative_decoding"]["num_spec_steps"])


def _chain(depth: str) -> dict[str, str]:
    return {
        "POLICY": PAPER,
        "MIN_DEPTH": depth,
        "MAX_DEPTH": depth,
        "MAX_WIDTH": "1",
        "BUDGET": str(CHAIN_BUDGET),
        "DRAFT_TOKENS_PER_STEP": str(CHAIN_BUDGET),
        "PREFILL_FACTOR": str(PREFILL_TOKENS / CHAIN_BUDGET),
        "SLO_NODES_FACTOR": "100",
    }
