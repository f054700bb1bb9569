"""Clients of a real gateway that know what they must get: every token is checked as it arrives."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_S = 120.0
AGAIN_S = 0.3
STALL_S = 0.25

Expect = Callable[[Mapping[str, Any]], Sequence[int]]


class Broken(Exception):
    """The connection ended or the server refused: the client asks again."""


@dataclass
class Record:
    """What all clients saw. ``damage`` is every stream that was not what it had to be."""

    outcomes: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)  # seconds between two arrivals, those above STALL_S
    num_tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def stall(self, quantile: float) -> float:
        """Quantile of the stalls in seconds, 0 without any."""
        ordered = sorted(self.stalls)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else 0.0


class Load:
    """Threads that ask ``bodies`` one after the other until told to stop; ``port`` is the gateway's."""

    def __init__(self, port: int, bodies: Iterator[Mapping[str, Any]], expect: Expect, num_clients: int) -> None:
        self._port, self._bodies, self._expect = port, bodies, expect
        self._take = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(num_clients)]
        self.record = Record()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Lets every client finish the request it is at."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)
            if thread.is_alive():
                self.record.damage.append("a client still waits for its stream")

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._take:
                body = next(self._bodies, None)
            if body is None:
                return
            self._ask_until_whole(body)

    def _ask_until_whole(self, body: Mapping[str, Any]) -> None:
        expected = list(self._expect(body))
        while True:
            try:
                outcome = self._stream(body, expected)
            except Broken as error:
                outcome = str(error)
            except (OSError, http.client.HTTPException) as error:
                outcome = f"connection {type(error).__name__}"
            with self.record.lock:
                self.record.outcomes[outcome] += 1
            if outcome in ("whole", "damaged"):
                return
            time.sleep(AGAIN_S)

    def _stream(self, body: Mapping[str, Any], expected: list[int]) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        try:
            request = json.dumps({"model": "default", "stream": True, "return_token_ids": True, **body})
            connection.request("POST", "/v1/completions", request, {"content-type": "application/json"})
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise Broken(f"status {response.status}")
            return self._check(response, expected)
        finally:
            connection.close()

    def _check(self, response: http.client.HTTPResponse, expected: list[int]) -> str:
        got: list[int] = []
        last, is_error = time.monotonic(), False
        for line in response:
            if line.startswith(b"event: error"):
                is_error = True
            if not line.startswith(b"data:"):
                continue
            if is_error:
                raise Broken(f"error {json.loads(line[5:])['error']['code']}")
            if line[5:].strip() == b"[DONE]":
                return self._judge(got, expected, is_whole=True)
            for choice in json.loads(line[5:])["choices"]:
                got += choice.get("token_ids") or []
            now = time.monotonic()
            self._note(now - last, got, expected)
            last = now
        self._judge(got, expected, is_whole=False)
        raise Broken("cut off")

    def _note(self, gap: float, got: list[int], expected: list[int]) -> None:
        if gap > STALL_S:
            with self.record.lock:
                self.record.stalls.append(gap)
        self._judge(got, expected, is_whole=False)

    def _judge(self, got: list[int], expected: list[int], *, is_whole: bool) -> str:
        right = expected if is_whole else expected[: len(got)]
        if got != right:
            at = next((i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), len(got))
            with self.record.lock:
                self.record.damage.append(f"{len(got)} tokens, {len(expected)} expected, first difference at {at}")
            return "damaged"
        if is_whole:
            with self.record.lock:
                self.record.num_tokens += len(got)
        return "whole"
