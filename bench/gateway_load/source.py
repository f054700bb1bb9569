"""The verifier's place, without a model: `python -m bench.gateway_load.source`.

It takes requests off the real queues, commits through the real script and bus, and keeps a verifier's heartbeat.
What it commits is a line of text over and over, encoded once: the processors are for the gateway.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from bench.gateway_load.board import KEPT, Board, map_board
from services.verifier.bus import Claimed, VerifierBus
from shared import codec
from shared import digest as digests
from shared.errors import BusUnavailable
from shared.health import HealthServer
from shared.heartbeat import Heartbeat, Pulse, new_member
from shared.messages import MAX_CONTEXT, Request, TokenEvent
from shared.process import on_signals, run
from shared.records import CommitRow
from shared.replies import CommitStatus
from shared.settings import Port, ServiceSettings
from shared.streams import OwnedStream, connect
from shared.tokenizer import Tokenizer, load_tokenizer
from shared.topics import TOKENS, Keys

LINE = "    return [line.strip() for line in text.splitlines() if line]\n"
NOBODY = "0" * 32
MAX_ROWS = 128  # of a commit
TURN_S = 0.01  # between commits at a given rate
LOOK_S = 0.02  # between looks at the queues
IDLE_S = 0.0005


class SourceSettings(ServiceSettings):
    """What the source reads."""

    http_port: Port = 0
    target: str = Field(description="whose tokenizer the gateway has")
    board: Path = Field(description="file of the board")
    chunk: int = Field(default=4, ge=1, le=64, description="tokens of an event")


@dataclass(slots=True)
class Script:
    """The rows of any request with one prompt: they differ in id and epoch only."""

    rows: list[CommitRow]


class Scripts:
    """A script for each prompt and length; events are encoded once, under an id that is then replaced."""

    def __init__(self, tokenizer: Tokenizer, chunk: int) -> None:
        self._line = tokenizer.encode(LINE, special=False)
        self._chunk = chunk
        self._known: dict[tuple[bytes, int], Script] = {}

    def of(self, request: Request) -> Script:
        key = (request.prompt.tobytes(), request.max_tokens)
        if key not in self._known:
            self._known[key] = Script(self._rows(request))
        return self._known[key]

    def _rows(self, request: Request) -> list[CommitRow]:
        prompt = request.prompt.tolist()
        position, digest = len(prompt), digests.extend(digests.EMPTY, prompt)
        end = position + request.max_tokens
        tokens = (self._line * (request.max_tokens // len(self._line) + 1))[: request.max_tokens]
        rows = []
        while tokens:
            new, tokens = tokens[: self._chunk], tokens[self._chunk :]
            after = digests.extend(digest, new)
            stop = position + len(new)
            finish = "length" if stop == end else ""
            event = TokenEvent(
                request=NOBODY,
                start=position,
                tokens=np.array(new, np.int32),
                digest=after,
                finish=finish or None,
                text_length=-1,
                stats={"queue_ms": 0.0} if finish else None,
                error=None,
            )
            rows.append(
                CommitRow(
                    request=NOBODY,
                    epoch="",
                    start=position,
                    start_digest=digest.hex(),
                    end=stop,
                    end_digest=after.hex(),
                    tokens=np.array(new, "<u4").tobytes(),
                    event=TOKENS.encode(event),
                    finish=finish,
                )
            )
            position, digest = stop, after
        return rows


@dataclass(slots=True)
class Running:
    """A claimed request and the next of its rows."""

    claimed: Claimed
    script: Script
    next: int = 0

    def row(self) -> CommitRow:
        about = self.script.rows[self.next]
        request = self.claimed.request
        return CommitRow(
            request=request,
            epoch=self.claimed.epoch,
            start=about.start,
            start_digest=about.start_digest,
            end=about.end,
            end_digest=about.end_digest,
            tokens=about.tokens,
            event=about.event.replace(NOBODY.encode(), request.encode()),
            finish=about.finish,
        )


class Source:
    """Commits for every stream whose client is not too far behind."""

    def __init__(self, bus: VerifierBus, scripts: Scripts, board: Board) -> None:
        self._bus = bus
        self._scripts = scripts
        self._board = board
        self._running: dict[int, Running] = {}
        self._places: dict[str, int] = {}
        self._is_running = np.zeros(len(board.sent), bool)
        self._looked = 0.0
        self._next_turn = 0.0
        self._next_place = 0

    def turn(self) -> None:
        """One look at the queues, if it is time for one, and one commit."""
        now = time.monotonic()
        if now - self._looked > LOOK_S:
            self._looked = now
            with suppress(BusUnavailable):
                self._look()
        rate = self._board.rate
        if rate and now < self._next_turn:
            time.sleep(min(TURN_S, self._next_turn - now))
            return
        self._next_turn = max(now - 10 * TURN_S, self._next_turn) + TURN_S if rate else now
        places = self._ready(min(MAX_ROWS, max(1, round(rate * TURN_S))) if rate else MAX_ROWS)
        if places:
            self._commit(places)
        else:
            time.sleep(IDLE_S)

    def _look(self) -> None:
        for event, _ in self._bus.hear(None).control:
            place = self._places.get(event.subject)
            if event.kind == "cancel" and place is not None:
                self._drop(place)
        while claimed := self._bus.take(64):
            for one in claimed:
                request = codec.decode(Request, one.claim.body)
                place = request.seed
                self._running[place] = Running(one, self._scripts.of(request))
                self._places[one.request] = place
                self._is_running[place] = True
                self._board.sent[place] = self._board.received[place]

    def _ready(self, count: int) -> list[int]:
        """Streams in turn."""
        board = self._board
        ready = np.flatnonzero(self._is_running & (board.sent - board.received < board.window))
        first = int(np.searchsorted(ready, self._next_place))
        chosen: list[int] = np.roll(ready, -first)[:count].tolist()
        if chosen:
            self._next_place = chosen[-1] + 1
        return chosen

    def _commit(self, places: list[int]) -> None:
        rows = [self._running[place].row() for place in places]
        try:
            answer, _ = self._bus.commit(rows, None)
        except BusUnavailable:  # a machine too busy to answer; the next turn's commit of the same rows says SAME
            return
        for place, status in zip(places, answer.results, strict=True):
            if status not in (CommitStatus.OK, CommitStatus.SAME):
                self._drop(place)
                continue
            board, running = self._board, self._running[place]
            board.sent_ms[place, int(board.sent[place]) % KEPT] = answer.time_ms
            board.sent[place] += 1
            running.next += 1
            if running.next == len(running.script.rows):
                self._drop(place)

    def _drop(self, place: int) -> None:
        del self._places[self._running.pop(place).claimed.request]
        self._is_running[place] = False


def main() -> None:
    """Serve until a signal."""
    run(SourceSettings, serve)


def serve(settings: SourceSettings) -> None:
    """Raises BusUnavailable at the start."""
    url, keys, member = settings.bus_url, Keys(settings.cell), new_member(settings.name)
    tokenizer = load_tokenizer(settings.target)
    bus = VerifierBus(connect(url), connect(url, blocking=True), keys, member)
    bus.start()
    source = Source(bus, Scripts(tokenizer, settings.chunk), map_board(settings.board))
    pulse, is_over = Pulse(), [False]
    on_signals(lambda: is_over.__setitem__(0, True))
    about = {
        "ready": True,
        "context_limit": MAX_CONTEXT,
        "model": "source",
        "token_map": tokenizer.token_map_digest,
        "zero_load_ms": 1.0,
    }
    beating = Heartbeat(
        url, keys, "verifier", member, lambda: about, [OwnedStream(bus.verify_stream)], pulse.healthy
    )
    health = HealthServer(settings.http_host, settings.http_port, ready=lambda: True, live=pulse.healthy)
    with beating:
        health.start()
        while not is_over[0]:
            pulse.tick()
            source.turn()
        health.stop()


if __name__ == "__main__":
    main()
