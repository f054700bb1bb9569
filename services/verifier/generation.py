"""One request while this verifier serves it. Everything here can be rebuilt from its hash and journal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from services.verifier.adjustment import Adjustment
from services.verifier.foresight import Foresight
from services.verifier.sampling import SamplingParams
from services.verifier.stopping import Scanner, StopRules
from services.verifier.tally import Tally
from shared import digest as digests
from shared.grammar import Matcher
from shared.inference.blocks import SequenceSlots
from shared.inference.prefixes import Prefix
from shared.logprobs import entry_size
from shared.messages import Request
from shared.records import Origin


@dataclass(slots=True)
class Speculation:
    """What one drafter knows of a request, and what the selector said of its next iteration."""

    drafter: str = ""
    acknowledged: int = 0  # context position the drafter holds; 0: nothing
    weight: float = 1.0
    retry_ms: float = 0.0  # a drafter without room is asked again then
    is_late: bool = False  # its need cannot be met in the iteration that the trees at hand are for


@dataclass(slots=True, eq=False)
class Generation:
    """Context, KV and bookkeeping of one request.

    Invariant: the KV covers context[:slots.length]; the next forward feeds context[slots.length:].
    """

    request: Request
    origin: Origin
    epoch: str
    rules: StopRules
    slots: SequenceSlots
    scanner: Scanner | None = None
    matcher: Matcher | None = None  # of the output's grammar; it has read the output
    compiling: Future[Matcher] | None = None  # it will be that one's; until then nothing is drawn
    prefix: Prefix | None = None  # names of its KV, where there is a prefix cache
    enqueued_ms: float = 0.0  # Redis clock
    first_token_ms: float | None = None  # Redis clock
    last_token_ms: float | None = None  # Redis clock
    tokens: list[int] = field(default_factory=list)
    logprobs: bytearray = field(default_factory=bytearray)  # an entry for each output token, if asked for
    digest: bytes = digests.EMPTY
    speculation: Speculation = field(default_factory=Speculation)
    tally: Tally = field(default_factory=Tally)
    is_barred: bool = False  # from speculation, by the governor
    id: str = field(init=False)  # the request's, hex
    num_prompt: int = field(init=False)  # tokens of the prompt
    temperature_bucket: int = field(init=False)  # of calibration: 0 greedy, then steps of a quarter up to 8
    params: SamplingParams = field(init=False)
    foresight: Foresight = field(init=False)
    adjustment: Adjustment | None = field(init=False)

    def __post_init__(self) -> None:
        self.params = SamplingParams.of(self.request)
        self.foresight = Foresight(self.params)
        self.adjustment = Adjustment.of(self.request)
        prompt = self.request.prompt.tolist()
        self.id, self.num_prompt = self.request.request, len(prompt)
        self.temperature_bucket = min(8, math.ceil(self.request.temperature * 4))
        self.tokens.extend(prompt)
        self.digest = digests.extend(self.digest, prompt)

    @property
    def is_ready(self) -> bool:
        """Whether its first token could be drawn."""
        return self.compiling is None

    @property
    def position(self) -> int:
        """Context length; the next draw fills context[position]."""
        return len(self.tokens)

    @property
    def num_output(self) -> int:
        """Tokens produced so far."""
        return len(self.tokens) - self.num_prompt

    @property
    def num_pending(self) -> int:
        """Context tokens the next forwards have to feed."""
        return len(self.tokens) - self.slots.length

    @property
    def is_decoding(self) -> bool:
        """Whether only the last token is unfed, so that a step draws a token and may verify a tree."""
        return len(self.tokens) - self.slots.length == 1  # `num_pending`, asked for too often to be called

    def ttft_slack_ms(self, redis_ms: float) -> float:
        """Time left until the first token is late; infinite without a target, negative when it is late."""
        return self.request.ttft_ms - (redis_ms - self.enqueued_ms)

    def remaining_ms(self, redis_ms: float) -> float:
        """Time to its last token at most, at the pace it has had; infinite while there is no pace."""
        if self.first_token_ms is None or self.num_output < 2 or not self.is_decoding:
            return math.inf
        pace_ms = (redis_ms - self.first_token_ms) / (self.num_output - 1)
        return pace_ms * (self.request.max_tokens - self.num_output)

    @property
    def wants_trees(self) -> bool:
        """Whether client and governor allow speculation."""
        return self.request.speculation and self.request.max_depth > 0 and not self.is_barred

    @property
    def has_all_logprobs(self) -> bool:
        """Whether every output token has its log-probabilities, if they are asked for."""
        return len(self.logprobs) == self.num_output * entry_size(self.request.logprobs)

    def first_output(self, count: int) -> tuple[bytes, bytes]:
        """The first ``count`` output tokens, uint32 LE, and their log-probabilities."""
        tokens = np.array(self.tokens[self.num_prompt : self.num_prompt + count], "<u4").tobytes()
        return tokens, bytes(self.logprobs[: count * entry_size(self.request.logprobs)])

    def extend(self, tokens: Iterable[int], logprobs: bytes = b"") -> None:
        """Append output tokens to the context, and their log-probabilities.

        Raises GrammarError, with nothing changed, where the output's grammar does not follow.
        """
        new = list(tokens)
        if self.matcher is not None:
            self.matcher.extend(new)
        self.tokens.extend(new)
        self.digest = digests.extend(self.digest, new)
        self.logprobs += logprobs
        if self.adjustment is not None:
            self.adjustment.extend(new)
        self.foresight.forget(self.position)

    def give_up_kv(self) -> None:
        """Free the KV; it is recomputed from the context. The drafter loses its row by absence."""
        self.tally.preempted()
        self.slots.free()
        if self.prefix is not None:
            self.prefix.num_kept = 0
        self.speculation = Speculation()
