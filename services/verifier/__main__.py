"""Composition root of the verifier: `python -m services.verifier`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

from redis import Redis

from services.verifier.assembly import build_engine
from services.verifier.bus import VerifierBus
from services.verifier.deletion_cost import DeletionCost, PodApi
from services.verifier.engine import Senses
from services.verifier.generation import Generation
from services.verifier.scheduler import Scheduler
from services.verifier.settings import VerifierSettings
from services.verifier.target import load_target
from shared.functions import has_library, load_library
from shared.health import HealthServer
from shared.heartbeat import Heartbeat, Pulse, new_member
from shared.process import on_signals, run
from shared.streams import OwnedStream, connect
from shared.telemetry import configure
from shared.topics import Keys

logger = logging.getLogger(__name__)

LIBRARY_AGAIN_S = 0.5


def main() -> None:
    """Serve until a signal; one line and an exit code other than 0 when that cannot start."""
    run(VerifierSettings, serve)


def serve(settings: VerifierSettings) -> None:
    """Load the model, then verify. Raises ConfigurationError, and BusUnavailable at the start only."""
    url, keys, member = settings.bus_url, Keys(settings.cell), new_member(settings.name)
    pod = settings.own_pod
    with configure("verifier", member) as telemetry:
        bus = started_bus(settings, keys, member)
        target = load_target(settings)
        stopping, is_over = drain_on_signals(settings.drain_s)  # not before: a signal during a long load ends it
        scheduler = Scheduler[Generation](
            target.pool, max_running=settings.max_running, prefill_chunk=settings.prefill_chunk
        )
        pulse = Pulse()
        heartbeat = Heartbeat(
            url,
            keys,
            "verifier",
            member,
            describe=lambda: target.describe(
                ready=not stopping.is_set(),
                load=len(scheduler.generations) / settings.max_running,
                running=len(scheduler.running),
                zero_load_ms=engine.timing.fastest_step_ms,
                profile=engine.timing.profile.version,
                mode=engine.stance.status.mode,
                mode_reason=engine.stance.status.reason,
                mode_since_ms=engine.stance.since_ms,
                **engine.pace.describe(),
            ),
            owned_streams=[OwnedStream(bus.verify_stream)],
            healthy=pulse.healthy,
            on_recreated=bus.reset_hints,
            keeps_library=settings.may_load_library,
        )
        senses = Senses(
            clock_ms=lambda: time.monotonic() * 1000,
            redis_ms=bus.redis_ms,
            on_time_for=heartbeat.on_time_for,
            pause=is_over.wait,
            pulse=pulse,
        )
        engine = build_engine(settings, target, scheduler, bus, telemetry, senses)
        health = HealthServer(
            settings.http_host,
            settings.http_port,
            ready=lambda: heartbeat.on_time_for(0) and not stopping.is_set(),
            live=lambda: heartbeat.is_running and pulse.healthy(),
            metrics=telemetry.prometheus,
        )
        logger.info("T(1) = %.2f ms, context limit %d", engine.timing.fastest_step_ms, target.context_limit)
        cost = told_cost(pod, lambda: scheduler.num_blocks_used * target.pool.block_size)
        with heartbeat, cost, closing(target):
            health.start()
            try:
                engine.run(stopping.is_set)
                engine.drain(is_over.is_set)
            finally:
                health.stop()


def started_bus(settings: VerifierSettings, keys: Keys, member: str) -> VerifierBus:
    """Once the functions that it calls are there. Raises BusUnavailable."""
    url = settings.bus_url
    client = connect(url)
    await_library(client, may_load=settings.may_load_library)
    bus = VerifierBus(client, connect(url, blocking=True), keys, member, max_labels=settings.max_labels)
    bus.start()
    return bus


def await_library(client: Redis, *, may_load: bool) -> None:
    """Until the function library is of this release or later: an older one would misread commits.

    Who may not load it waits for a gateway of this release. Raises BusUnavailable.
    """
    if may_load:
        load_library(client)
    if has_library(client):
        return
    logger.warning("functions are missing or of an older release: waiting for a gateway of this one to load them")
    while not has_library(client):
        time.sleep(LIBRARY_AGAIN_S)


def told_cost(pod: PodApi | None, tokens: Callable[[], int]) -> AbstractContextManager[Any]:
    """While entered, the pod's deletion cost is kept; nothing without a pod."""
    return nullcontext() if pod is None else DeletionCost(pod.annotate, tokens)


def drain_on_signals(budget_s: float) -> tuple[threading.Event, threading.Event]:
    """What the first signal sets at once, and what it sets ``budget_s`` later."""
    stopping, is_over = threading.Event(), threading.Event()
    timer = threading.Timer(budget_s, is_over.set)
    timer.daemon = True

    def drain() -> None:
        stopping.set()
        timer.start()

    on_signals(drain)
    return stopping, is_over


if __name__ == "__main__":
    main()
