"""What one open request has received: in order, each token once, checked against the digest chain.

Pure: events come in, an `Attached` journal heals what was lost, deltas go out. Times are Redis' clock in ms.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass, field

import numpy as np

from shared import digest as digests
from shared.messages import TokenEvent
from shared.replies import Attached
from shared.topics import TOKENS

ENDED_FROM_OUTSIDE = ("cancelled", "error", "detached", "expired")  # such an end may come at any position


class BrokenChain(Exception):
    """The tokens in Redis are not a continuation of those the client has seen."""


class Behind(Exception):
    """Redis holds less than the client has seen: it has forgotten."""


class Gap(Exception):
    """Events were lost: the journal has to be read."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Newly committed tokens; ``end`` is the terminal event with the last of them.

    ``digest`` is that of the chain after them, where it is known.
    """

    tokens: list[int]
    end: TokenEvent | None = None
    digest: bytes = b""


@dataclass(slots=True, eq=False)
class Delivery:
    """The verified prefix of one request: ``position`` and ``digest`` start at the end of the prompt.

    ``logprob_size`` bytes of log-probabilities (`shared.logprobs`) come with each token. ``drafted``, where it is
    asked for, says of each token whether the draft model had guessed it, None where that is not known.
    """

    request: str
    position: int
    digest: bytes
    logprob_size: int = 0
    tokens: list[int] = field(default_factory=list)
    logprobs: bytearray = field(default_factory=bytearray)
    first_ms: float | None = None
    last_ms: float | None = None
    end: TokenEvent | None = None
    drafted: list[bool | None] | None = None

    def receive(self, event: TokenEvent, committed_at: float) -> Delta | None:
        """What this event adds; None for a copy of what is known. Raises Gap when something is missing."""
        if self.end is not None:
            return None
        if event.finish in ENDED_FROM_OUTSIDE and len(event.tokens) == 0:
            return self._finish([], event)
        if event.start > self.position:
            raise Gap
        if event.end < self.position or (event.end == self.position and event.finish is None):
            return None
        new = event.tokens[self.position - event.start :].tolist()
        digest = digests.extend(self.digest, new)
        if digest != event.digest or not self._fits(event.tokens, event.logprobs):
            raise Gap  # not this chain: the journal tells which of the two is right
        self._append(new, digest, event.logprobs, committed_at)
        if self.drafted is not None:
            self.drafted += _drafted(event, len(new))
        return self._finish(new, event)

    def heal(self, journal: Attached, now_ms: float, asked_at: int | None = None) -> list[Delta]:
        """What the journal adds, commit by commit: the same deltas that its events would have made.

        `asked_at` is the position when the journal was asked for (None: still the present one). Events may have
        overtaken the reply since: then it is old, not wrong. Raises Behind when the journal ends before that
        position, BrokenChain when it is not a continuation of the prefix.
        """
        if self.end is not None:
            return []
        end = TOKENS.decode(journal.terminal) if journal.terminal else None
        if journal.position < self.position:
            return self._heal_from_less(journal, end, self.position if asked_at is None else asked_at)
        missing = self._missing(journal)
        groups = [group for group, _ in missing]
        if digests.extend(self.digest, [token for group in groups for token in group]).hex() != journal.digest:
            raise BrokenChain
        if self.first_ms is None and groups:
            self.first_ms = journal.first_token_ms
        last_ms = now_ms if journal.last_token_ms is None else journal.last_token_ms
        for group, logprobs in missing:
            self._append(group, digests.extend(self.digest, group), logprobs, last_ms)
            if self.drafted is not None:
                self.drafted += [None] * len(group)
        last = groups.pop() if groups and end is not None and len(end.tokens) else []
        return [*(Delta(group) for group in groups), *_without_none(self._finish(last, end))]

    def _heal_from_less(self, journal: Attached, end: TokenEvent | None, asked_at: int) -> list[Delta]:
        if end is not None and end.finish in ENDED_FROM_OUTSIDE:
            return _without_none(self._finish([], end))
        if end is not None or journal.position < asked_at:
            raise Behind
        return []

    def _missing(self, journal: Attached) -> list[tuple[list[int], bytes]]:
        """Tokens with their commit's log-probabilities. Raises BrokenChain, and ValueError for an odd entry."""
        groups: list[tuple[list[int], bytes]] = []
        position = self.position
        for entry in journal.journal:
            if entry.start > position:
                raise BrokenChain
            tokens = np.frombuffer(entry.tokens, "<u4")
            if not self._fits(tokens, entry.logprobs):
                raise ValueError("log-probabilities are missing")
            # What events told meanwhile is in the journal too.
            group = tokens[position - entry.start :].tolist()
            groups += [(group, entry.logprobs)] if group else []
            position += len(group)
        return groups

    def _fits(self, tokens: Sized, logprobs: bytes) -> bool:
        return len(logprobs) == len(tokens) * self.logprob_size

    def _append(self, new: Sequence[int], digest: bytes, logprobs: bytes, at_ms: float) -> None:
        """``digest`` is that after the new tokens; ``logprobs`` may begin before them."""
        if not new:
            return
        self.first_ms = at_ms if self.first_ms is None else self.first_ms
        self.last_ms = max(at_ms, self.last_ms or at_ms)
        self.position += len(new)
        self.digest = digest
        self.tokens += new
        if self.logprob_size:
            self.logprobs += logprobs[len(logprobs) - len(new) * self.logprob_size :]

    def _finish(self, new: list[int], event: TokenEvent | None) -> Delta | None:
        if event is not None and event.finish is not None:
            self.end = event
        return Delta(new, self.end, self.digest) if new or self.end is not None else None


def _drafted(event: TokenEvent, num_new: int) -> list[bool | None]:
    """Of its last tokens, which are new."""
    if event.drafted is None:
        return [None] * num_new
    known = len(event.tokens) - num_new
    return [index < event.drafted for index in range(known, len(event.tokens))]


def _without_none(delta: Delta | None) -> list[Delta]:
    return [] if delta is None else [delta]


def terminal(request: str, finish: str, error: str | None = None) -> TokenEvent:
    """An end that carries no tokens."""
    return TokenEvent(
        request=request,
        start=0,
        tokens=np.empty(0, np.int32),
        digest=digests.EMPTY,
        finish=finish,
        text_length=-1,
        stats=None,
        error=error,
    )
