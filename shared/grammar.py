"""Which token may come next in an output that must be JSON of a given schema, at any node of a token tree.

llguidance turns a JSON Schema into a grammar over the model's tokens. One `Matcher` follows one request; a path
through a tree is tried and taken back, so that many nodes can be asked about without copies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import llguidance
import numpy as np
import numpy.typing as npt

from shared.errors import GrammarError
from shared.tokenizer import Tokenizer

Mask = npt.NDArray[np.bool_]
Compile = Callable[[str], "Future[Matcher]"]
"""Of a JSON Schema: a matcher, or GrammarError, when the compiler is through with it."""

# One optional space, where JSON would allow any amount of white space: a model that likes indentation would
# otherwise be free to produce nothing else up to its last token.
WHITE_SPACE = " ?"
MAX_COMPILED = 256  # of some hundred KB each
# A mask of a step within these takes milliseconds at worst; what needs more is refused or ends with an error.
LIMITS = llguidance.LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=100_000,
    step_max_items=20_000,
    max_lexer_states=20_000,
    max_grammar_size=100_000,
    precompute_large_lexemes=False,
    verbose_errors=False,
)


class Grammars:
    """Compiles schemas for one model: ``vocab_size`` logits, ``end_ids`` end an output."""

    def __init__(self, tokenizer: Tokenizer, *, vocab_size: int, end_ids: Iterable[int]) -> None:
        self._end_ids = frozenset(end_ids)
        self._vocab_size = vocab_size
        # What pads the embedding has no text, and is never allowed.
        known = [token for token in sorted(self._end_ids) if token < tokenizer.vocab_size]
        self._can_end = bool(known)
        # Milliseconds against microseconds, and a product sends the same schema again and again.
        self._compiled = lru_cache(MAX_COMPILED)(self._compile)
        self._thread = ThreadPoolExecutor(1, "grammar")
        self._tokenizer = llguidance.LLTokenizer(
            tokenizer.backend.to_str(), n_vocab=tokenizer.vocab_size, eos_token=known or None
        )

    def compile(self, schema: str) -> Future[Matcher]:
        """`matcher` in a thread: a schema may take a tenth of a second, and nobody else's step waits for it.

        The library compiles outside of Python's lock.
        """
        return self._thread.submit(self.matcher, schema)

    def matcher(self, schema: str) -> Matcher:
        """The matcher of a new output. Raises GrammarError, which never shows the schema."""
        if not self._can_end:
            raise GrammarError("cannot be followed: this model has no end token")
        return Matcher(self._compiled(schema).deep_copy(), vocab_size=self._vocab_size, end_ids=self._end_ids)

    def _compile(self, schema: str) -> llguidance.LLMatcher:
        try:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(
                schema,
                overrides={  # a schema may try to set these by "x-guidance"
                    "whitespace_pattern": WHITE_SPACE,
                    "item_separator": ",",
                    "key_separator": ":",
                    "coerce_one_of": False,
                    "lenient": False,
                },
            )
        except ValueError:
            raise GrammarError("is not a JSON Schema") from None
        inner = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=LIMITS)
        if inner.is_error():
            raise GrammarError(_reason(inner.get_error()))
        return inner


class Matcher:
    """Where one output stands in its grammar. After an end token nothing is forbidden any more.

    ``num_tokens`` counts what `extend` was given and `shorten` left.
    """

    def __init__(self, inner: llguidance.LLMatcher, *, vocab_size: int, end_ids: frozenset[int]) -> None:
        self._inner = inner
        self._vocab_size = vocab_size
        self._end_ids = end_ids
        self._num_inside = 0  # tokens the grammar has read; those from an end token on are only counted
        self.num_tokens = 0

    def extend(self, tokens: Sequence[int]) -> None:
        """The output has grown. Raises GrammarError where the grammar forbids that; it stays as it was."""
        inside = self._inside(tokens)
        taken = self._inner.try_consume_tokens(list(inside))
        if taken < len(inside):
            self._take_back(taken)
            raise GrammarError(self._failure() or "forbids what the output holds")
        self._num_inside += taken
        self.num_tokens += len(tokens)

    def shorten(self, num_tokens: int) -> None:
        """The output has only its first ``num_tokens``. Raises GrammarError where the grammar has failed."""
        self.num_tokens = num_tokens
        if num_tokens < self._num_inside:
            self._take_back(self._num_inside - num_tokens)
            self._num_inside = num_tokens

    def allowed_after(self, path: Sequence[int]) -> Mask | None:
        """bool [vocab]: what may follow the output and ``path``; None: everything, for it has ended.

        Raises GrammarError where the grammar forbids the path, or grew beyond its limits.
        """
        inside = self._inside(path)
        if self._has_ended or len(inside) < len(path):
            return None
        taken = self._inner.try_consume_tokens(list(inside))
        bits = self._inner.compute_bitmask() if taken == len(inside) else b""
        # A dead end is told as an end: the library then allows the end token alone.
        is_dead = self._inner.is_stopped() and not self._inner.is_accepting()
        self._take_back(taken)
        if not bits:
            raise GrammarError(self._failure() or "forbids the path")
        if is_dead:
            raise GrammarError("leaves nothing that may come next")
        allowed = np.zeros(self._vocab_size, np.bool_)
        mask = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[: self._vocab_size]
        allowed[: len(mask)] = mask
        if not allowed.any():
            raise GrammarError(self._failure() or "leaves nothing that may come next")
        return allowed

    @property
    def _has_ended(self) -> bool:
        return self.num_tokens > self._num_inside

    def _inside(self, tokens: Sequence[int]) -> Sequence[int]:
        """Those before the first end token: the end is not part of the text."""
        if self._has_ended:
            return ()
        end = next((index for index, token in enumerate(tokens) if token in self._end_ids), len(tokens))
        return tokens[:end]

    def _take_back(self, count: int) -> None:
        if count and not self._inner.rollback(count):
            raise GrammarError(self._failure() or "cannot be taken back")

    def _failure(self) -> str:
        return _reason(self._inner.get_error()) if self._inner.is_error() else ""


def no_grammars(_: str) -> Future[Matcher]:
    """A Compile that refuses everything, for models without text."""
    refused: Future[Matcher] = Future()
    refused.set_exception(GrammarError("cannot be followed by this model"))
    return refused


def _reason(error: str) -> str:
    """What the library says, without what it may quote of the schema; the keywords it lacks are no secret."""
    line = error.strip().partition("\n")[0]
    if not line.startswith("Unimplemented keys"):
        line = re.split(r"[:'\"`/]", line)[0]
    return f"is refused: {line[:200].strip() or 'it cannot be compiled'}"
