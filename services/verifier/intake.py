"""From a claimed request to a generation: decode, check against the model, continue where the journal ends."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

import numpy as np

from services.verifier.bus import Claimed
from services.verifier.generation import Generation
from services.verifier.stopping import StopRules
from shared import codec
from shared.detokenizer import StopScanner
from shared.errors import AdaServeError, GrammarError, UnreadableMessage
from shared.grammar import Compile, Matcher
from shared.inference.blocks import SequenceSlots
from shared.inference.prefixes import PrefixCache
from shared.messages import Request
from shared.records import Origin
from shared.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

GRAMMAR_WAIT_S = 0.02  # for the next grammar, where there is nothing else to do
_ID = re.compile(r"[0-9a-f]{32}")


class Unservable(AdaServeError):
    """A claimed request that no verifier of this model can serve; the text is for operator and client."""


class Expired(AdaServeError):
    """A claimed request whose client does not wait for it any more."""


class Intake:
    """Knows the model's limits: ``vocab_size`` ids, ``context_limit`` tokens of prompt and output together."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        new_slots: Callable[[], SequenceSlots],
        compile_schema: Compile,
        prefixes: PrefixCache | None = None,
        *,
        vocab_size: int,
        context_limit: int,
        eos_token_ids: frozenset[int],
    ) -> None:
        self._tokenizer = tokenizer
        self._new_slots = new_slots
        self._compile_schema = compile_schema
        self._prefixes = prefixes
        self._vocab_size = vocab_size
        self._context_limit = context_limit
        self._eos_token_ids = eos_token_ids

    def accept(self, claimed: Claimed) -> Generation:
        """The generation to serve. Raises Unservable with the reason, Expired for what came too late."""
        claim = claimed.claim
        if claim.has_expired:
            raise Expired(f"waited {claim.queued_ms:.0f} ms of at most {claim.budget_ms:.0f}")
        request = self._request(claimed)
        generation = Generation(
            request=request,
            origin=Origin(
                body=claim.body,
                tenant=claim.tenant,
                tier=claim.tier,
                seed=claim.seed,
                gateway=claim.gateway,
                traceparent=claim.traceparent,
                form=claim.form,
                cost=claim.cost,
                weight=claim.weight,
                attachment=claim.attachment,
                slo_class=request.slo_class,
                tpot_ms=request.tpot_ms,
                ttft_ms=request.ttft_ms,
                spent_ms=claim.spent_ms,
            ),
            epoch=claimed.epoch,
            rules=StopRules.of(request, self._eos_token_ids),
            slots=self._new_slots(),
            scanner=self._scanner(request) if request.stop else None,
            compiling=self._compile_schema(request.schema) if request.schema else None,
            prefix=None if self._prefixes is None else self._prefixes.new_prefix(request.tenant),
            enqueued_ms=claim.enqueued_ms,
            first_token_ms=claim.first_token_ms,
            last_token_ms=claim.last_token_ms,
        )
        generation.tally.queue_ms = claim.queued_ms
        self._replay(generation, np.frombuffer(claim.tokens, "<u4").tolist(), claim.logprobs)
        has_all = generation.has_all_logprobs
        if not has_all or (generation.position, generation.digest.hex()) != (claim.position, claim.digest):
            raise Unservable("journal and position contradict each other")
        return generation

    def take_grammars(self, generations: Sequence[Generation]) -> list[tuple[Generation, Unservable]]:
        """Make ready whose grammar is compiled by now; those that cannot be served come back with the reason.

        Where there is nothing else to do than to wait for grammars, the next one is waited for.
        """
        compiling = {each.compiling: each for each in generations if each.compiling is not None}
        if not compiling:
            return []
        wait(compiling, GRAMMAR_WAIT_S if len(compiling) == len(generations) else 0.0, FIRST_COMPLETED)
        failed = []
        for grammar in [grammar for grammar in compiling if grammar.done()]:
            try:
                self._take_grammar(compiling[grammar], grammar)
            except Unservable as error:
                failed.append((compiling[grammar], error))
        return failed

    def _take_grammar(self, generation: Generation, grammar: Future[Matcher]) -> None:
        """Bring it to where the output is. Raises Unservable."""
        try:
            matcher = grammar.result()
        except GrammarError as error:
            raise Unservable(f"Request: schema {error}") from None
        try:
            matcher.extend(generation.tokens[generation.num_prompt :])
        except GrammarError as error:
            raise Unservable(f"the journal contradicts the schema, which {error}") from None
        generation.matcher, generation.compiling = matcher, None

    def _request(self, claimed: Claimed) -> Request:
        try:
            request = codec.decode(Request, claimed.claim.body)
        except UnreadableMessage as error:
            raise Unservable(str(error)) from None
        length = len(request.prompt)
        if request.request != claimed.request:
            raise Unservable("Request: request is not the id it was queued under")
        if not _ID.fullmatch(request.request):
            raise Unservable("Request: request must be 32 hex digits")
        if length == 0:
            raise Unservable("Request: prompt is empty")
        if request.prompt.min() < 0 or request.prompt.max() >= self._vocab_size:
            raise Unservable(f"Request: prompt holds an id that is not in 0..{self._vocab_size - 1}")
        if len(request.bias_ids) and request.bias_ids.max() >= self._vocab_size:
            raise Unservable(f"Request: bias_ids holds an id that is not in 0..{self._vocab_size - 1}")
        if length + request.max_tokens > self._context_limit:
            raise Unservable(
                f"Request: prompt of {length} and max_tokens {request.max_tokens} exceed {self._context_limit}"
            )
        return request

    def _scanner(self, request: Request) -> StopScanner:
        return StopScanner(self._tokenizer, request.stop, min_tokens=request.min_tokens)

    def _replay(self, generation: Generation, tokens: list[int], logprobs: bytes) -> None:
        """Bring context and stop matching to where the previous owner left them."""
        generation.extend(tokens, logprobs)
        if generation.scanner is not None:
            for token in tokens:
                generation.scanner.push(token)
