"""Clients of real gateways that know what they must get: every token is checked as it arrives."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

TIMEOUT_S = 120.0
AGAIN_S = 0.1
STALL_S = 0.25

Expect = Callable[[Mapping[str, Any]], Sequence[int]]
Excuse = Callable[[Mapping[str, Any], Sequence[int]], bool]
"""Whether these tokens, which are not the expected ones, are as good (near ties in float32)."""


class Stall(NamedTuple):
    """A silence of an open stream, over all of its connections, and when it ended (monotonic)."""

    seconds: float
    ended: float


def quantile(ordered: Sequence[float], part: float) -> float:
    """Of figures in rising order; 0 without any."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


class Broken(Exception):
    """The connection ended or the server refused: the client asks again."""


@dataclass
class Record:
    """What all clients saw. ``damage`` is every stream that was not what it had to be."""

    outcomes: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)
    stalls: list[Stall] = field(default_factory=list)  # those above STALL_S
    num_excused: int = 0
    num_resumed: int = 0  # connections that went on after a last event
    num_tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def stall(self, part: float) -> float:
        """Quantile of the stalls in seconds, 0 without any."""
        return quantile(sorted(stall.seconds for stall in self.stalls), part)

    def errors(self) -> Counter[str]:
        """What streams ended with that had begun, other than their last token or a broken connection."""
        return Counter({name: count for name, count in self.outcomes.items() if name.startswith("error ")})

    def recovery(self, moment: float) -> float:
        """Seconds from a moment in which streams stood still until the last of them went on; 0 if none stood."""
        return max(
            (ended - moment for seconds, ended in self.stalls if ended - seconds < moment < ended), default=0
        )


@dataclass
class Answer:
    """What one request has got so far, over all of its connections."""

    body: Mapping[str, Any]
    expected: Sequence[int]
    stream: str = ""
    last_event: str = ""
    tokens: list[int] = field(default_factory=list)
    heard: float | None = None  # when something last came; None before the first token

    def forget(self) -> None:
        """Nobody knows the stream any more: from the beginning."""
        self.stream, self.last_event, self.tokens, self.heard = "", "", [], None


class Load:
    """Threads that ask ``bodies`` one after the other until told to stop, at the gateways' ``ports`` in turn.

    Whoever loses a connection goes on at the next gateway, after its last event.
    """

    def __init__(
        self,
        ports: Sequence[int],
        bodies: Iterator[Mapping[str, Any]],
        expect: Expect,
        num_clients: int,
        excuse: Excuse = lambda *_: False,
    ) -> None:
        self._ports, self._bodies, self._expect, self._excuse = itertools.cycle(ports), bodies, expect, excuse
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
            self._ask_until_whole(Answer(body, self._expect(body)))

    def _ask_until_whole(self, answer: Answer) -> None:
        while True:
            try:
                outcome = self._connect(answer)
            except Broken as error:
                outcome = str(error)
            except (OSError, http.client.HTTPException) as error:
                outcome = f"connection {type(error).__name__}"
            with self.record.lock:
                self.record.outcomes[outcome] += 1
            if outcome in ("whole", "damaged"):
                return
            if outcome.startswith("error ") or outcome in ("status 404", "status 409"):
                answer.forget()
            time.sleep(AGAIN_S)

    def _connect(self, answer: Answer) -> str:
        with self._take:
            port = next(self._ports)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        try:
            if answer.stream:
                headers = {"Last-Event-ID": answer.last_event} if answer.last_event else {}
                self.record.num_resumed += bool(answer.last_event)
                connection.request("GET", f"/v1/streams/{answer.stream}", headers=headers)
            else:
                body = {"model": "default", "stream": True, "return_token_ids": True, **answer.body}
                headers = {"content-type": "application/json"}
                connection.request("POST", "/v1/completions", json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise Broken(f"status {response.status}")
            answer.stream = response.headers["x-adaserve-stream"]
            return self._read(response, answer)
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse, answer: Answer) -> str:
        event, is_error = "", False
        for line in response:
            if line.startswith(b"id: "):
                event = line[4:].strip().decode()
            is_error |= line.startswith(b"event: error")
            if not line.startswith(b"data:"):
                continue
            if is_error:
                raise Broken(f"error {json.loads(line[5:])['error']['code']}")
            if line[5:].strip() == b"[DONE]":
                return self._judge(answer)
            for choice in json.loads(line[5:])["choices"]:
                answer.tokens += choice.get("token_ids") or []
            answer.last_event = event
            self._note(answer)
        raise Broken("cut off")

    def _note(self, answer: Answer) -> None:
        now = time.monotonic()
        if answer.heard is not None and now - answer.heard > STALL_S:
            with self.record.lock:
                self.record.stalls.append(Stall(now - answer.heard, now))
        answer.heard = now if answer.tokens else None

    def _judge(self, answer: Answer) -> str:
        got, expected = answer.tokens, list(answer.expected)
        if got != expected:
            with self.record.lock:
                if self._excuse(answer.body, got):
                    self.record.num_excused += 1
                else:
                    at = next((i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), len(got))
                    self.record.damage.append(
                        f"{len(got)} tokens, {len(expected)} expected, first difference at {at}"
                    )
                    return "damaged"
        with self.record.lock:
            self.record.num_tokens += len(got)
        return "whole"
