"""Whether draft-ahead pays, by trying both. Pure: seconds of any clock are arguments.

Rounds come in blocks, with draft-ahead or without; two blocks in a row of different kind make a pair, and what
counts is the ratio of their rates, tokens the verifiers gained per second between their messages. That is the end
of everything: levels that need no forward pass, slices that a message waits for, cores taken from a verification.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

Mode = Literal["auto", "on", "off"]

BLOCK_ROUNDS = 32
LONGEST_ROUND_S = 1.0  # longer ones are pauses
FEWEST_PAIRS = 6
MOST_PAIRS = 24
CLIP = 0.5  # of a log ratio: a stall proves nothing
ON_BLOCKS = 14  # between two looks at the other kind
OFF_BLOCKS = 62


@dataclass(slots=True)
class _Block:
    is_on: bool
    rounds: int = 0
    tokens: int = 0
    seconds: float = 0.0
    saved_s: float = 0.0
    cost_s: float = 0.0

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0.0 else 0.0


class Worth:
    """Says for each round whether its outcomes are drafted from.

    ``auto`` alternates until the mean log ratio is above its standard error (on), or enough pairs have not shown
    that (off: what shows no gain only takes cores); then it looks at the other kind now and then, and so follows a
    change. A block in which less was saved than messages waited for is no gain, whatever its rate.
    """

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._pairs: deque[float] = deque(maxlen=MOST_PAIRS)
        self._block = _Block(is_on=mode == "on")
        self._before: _Block | None = None
        self._heard: dict[Hashable, tuple[float, bool]] = {}
        self._settled_blocks = 0
        self._pays: bool | None = None

    @property
    def is_on(self) -> bool:
        """Of the round at hand."""
        return self._block.is_on

    @property
    def pays(self) -> bool | None:
        """The verdict, None before there is one."""
        return self._pays

    @property
    def gain(self) -> float:
        """Tokens per second with draft-ahead over those without, 1 before there is a pair."""
        return math.exp(statistics.fmean(self._pairs)) if self._pairs else 1.0

    def heard(self, group: Hashable, now_s: float, num_tokens: int) -> None:
        """A message of ``group`` has come, with the tokens its rows gained since its last one."""
        last = self._heard.get(group)
        block = self._block
        if last is not None and last[1] == block.is_on and now_s - last[0] <= LONGEST_ROUND_S:
            block.rounds += 1
            block.tokens += num_tokens
            block.seconds += now_s - last[0]
        if self._mode == "auto" and block.rounds >= BLOCK_ROUNDS:
            self._next_block()
        self._heard[group] = now_s, self._block.is_on

    def forget(self, group: Hashable) -> None:
        """The group asks no more."""
        self._heard.pop(group, None)

    def spent(self, *, saved_s: float, cost_s: float) -> None:
        """What the round at hand was spared by draft-ahead, and how long its message had to wait for a slice."""
        self._block.saved_s += saved_s
        self._block.cost_s += cost_s

    def _next_block(self) -> None:
        done, before = self._block, self._before
        if before is not None and before.is_on != done.is_on and done.rate > 0.0 and before.rate > 0.0:
            on, off = (done, before) if done.is_on else (before, done)
            ratio = math.log(on.rate / off.rate)
            self._pairs.append(max(-CLIP, min(CLIP, ratio if on.saved_s > on.cost_s else min(ratio, 0.0))))
            self._judge()
        self._before, self._block = done, _Block(self._next_kind(done))

    def _judge(self) -> None:
        if len(self._pairs) < FEWEST_PAIRS:
            return
        mean = statistics.fmean(self._pairs)
        error = statistics.stdev(self._pairs) / math.sqrt(len(self._pairs))
        if mean > error:
            self._pays = True
        elif mean < -error or len(self._pairs) == MOST_PAIRS:
            self._pays = False

    def _next_kind(self, done: _Block) -> bool:
        """Alternate while there is no verdict; else stay, with one block of the other kind now and then."""
        if self._pays is None or done.is_on != self._pays:
            self._settled_blocks = 0
            return not done.is_on
        self._settled_blocks += 1
        if self._settled_blocks > (ON_BLOCKS if self._pays else OFF_BLOCKS):
            return not self._pays
        return self._pays
