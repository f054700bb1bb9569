"""Steady greedy load for `bench.drift`, each answer compared with plain decoding's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.local import LocalStack
from bench.prompts import source_prompts
from bench.replay.recording import RecordedRequest

TARGET_FACTOR = 3.0  # of the zero-load latency: what each request is promised
PLAIN = {"speculation": {"enabled": False}}


@dataclass
class Load:
    """Streams that ask one after the other. ``requests`` are those that were answered, ``different`` those whose
    answer was another one, or none."""

    stack: LocalStack
    prompts: Sequence[str]
    body: dict[str, Any]
    expected: Sequence[Any]
    tpot_ms: float
    start_s: float = field(default_factory=time.monotonic)
    started_at: float = field(default_factory=time.time)
    requests: list[RecordedRequest] = field(default_factory=list)
    different: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, stack: LocalStack, *, streams: int, tokens: int) -> Load:
        prompts = source_prompts(streams, seed=3)
        body: dict[str, Any] = {"max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        expected = [stack.complete({"prompt": one, **body, "adaserve": PLAIN})["choices"] for one in prompts]
        return cls(stack, prompts, body, expected, TARGET_FACTOR * stack.zero_load_ms())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the end of the block, and of the answers that are under way."""
        self.start_s, self.started_at = time.monotonic(), time.time()
        with ThreadPoolExecutor(len(self.prompts)) as pool:
            asking = [pool.submit(self._ask, number) for number in range(len(self.prompts))]
            try:
                yield
            finally:
                self._stopping.set()
            for each in asking:
                each.result()
        self.requests.sort(key=lambda one: one.arrival_ms)

    def _ask(self, number: int) -> None:
        ours = {"slo": {"tpot_ms": self.tpot_ms}}
        while not self._stopping.is_set():
            arrival_ms = 1e3 * (time.monotonic() - self.start_s)
            try:
                answer = self.stack.complete({"prompt": self.prompts[number], **self.body, "adaserve": ours})
            except (OSError, RuntimeError):
                answer = {"choices": None}
            with self._lock:
                self.different += answer["choices"] != self.expected[number]
                if answer["choices"] is not None:
                    self.requests.append(self._recorded(arrival_ms, answer))

    def _recorded(self, arrival_ms: float, answer: dict[str, Any]) -> RecordedRequest:
        metrics, usage = answer["metrics"], answer["usage"]
        speculative = metrics["speculative_decoding"]
        first_ms = arrival_ms + metrics["time_to_first_token_ms"]
        return RecordedRequest(
            tenant="default",
            category="steady",
            arrival_ms=arrival_ms,
            prompt_tokens=usage["prompt_tokens"],
            tokens=usage["completion_tokens"],
            first_ms=first_ms,
            last_ms=first_ms + metrics["generation_time_ms"],
            tpot_target_ms=self.tpot_ms,
            steps=speculative["num_spec_steps"],
            drafted=speculative["num_draft_tokens"],
            accepted=speculative["num_accepted_draft_tokens"],
        )
