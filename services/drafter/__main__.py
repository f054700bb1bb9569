"""Composition root of the drafter: `python -m services.drafter`."""

from __future__ import annotations

import logging
from functools import partial

from services.drafter.drafter import Drafter
from services.drafter.handler import DraftHandler
from services.drafter.settings import DrafterSettings
from shared.grammar import Grammars
from shared.health import HealthServer
from shared.heartbeat import Heartbeat, live_members, new_member
from shared.inference.heap import give_back_freed, give_back_large
from shared.inference.identity import model_name
from shared.inference.loading import load_model
from shared.inference.placing import Use, place
from shared.inference.runner import ModelRunner
from shared.inference.threads import use_threads
from shared.messages import MAX_WIDTH
from shared.process import on_signals, run
from shared.streams import HintReader, OwnedStream, connect
from shared.telemetry import configure
from shared.tokenizer import load_tokenizer
from shared.topics import DRAFT, Keys
from shared.worker import Worker

logger = logging.getLogger(__name__)


def main() -> None:
    """Serve until a signal; one line and an exit code other than 0 when that cannot start."""
    run(DrafterSettings, serve)


def serve(settings: DrafterSettings) -> None:
    """Load the model, then draft. Raises ConfigurationError, and BusUnavailable at the start only."""
    url, keys, member = settings.bus_url, Keys(settings.cell), new_member(settings.name)
    drafter, token_map = load_drafter(settings)
    model = model_name(settings.draft)
    with configure("drafter", member) as telemetry:
        if settings.has_whole_rounds:
            logger.info("the device drafts whole rounds, so nothing is drafted ahead (ADASERVE_WHOLE_ROUNDS)")
        elif settings.device != "cpu":
            logger.info("rounds are drafted level by level (ADASERVE_WHOLE_ROUNDS, ADASERVE_DRAFT_AHEAD)")
        client = connect(url)
        reader = HintReader(connect(url, blocking=True), [keys.draft(member)])
        worker = Worker(
            reader,
            DraftHandler(
                drafter,
                keys,
                telemetry,
                lambda: live_members(client, keys, "verifier", forgets=False),
                draft_ahead=settings.ahead_mode,
            ),
            client=client,
            decode=DRAFT.decode,
            key=lambda message: (message.verifier, message.ring),
            hop="draft",
            telemetry=telemetry,
        )
        heartbeat = Heartbeat(
            url,
            keys,
            "drafter",
            member,
            describe=lambda: {"token_map": token_map, "model": model, "load": drafter.num_rows},
            owned_streams=[OwnedStream(keys.draft(member))],
            healthy=worker.pulse.healthy,
            on_recreated=reader.reset,
        )
        health = HealthServer(
            settings.http_host,
            settings.http_port,
            ready=lambda: heartbeat.on_time_for(0),
            live=lambda: heartbeat.is_running and worker.pulse.healthy(),
            metrics=telemetry.prometheus,
        )

        def drain() -> None:
            heartbeat.leave()
            worker.stop()

        on_signals(drain)
        with heartbeat:
            health.start()
            try:
                worker.run()
            finally:
                health.stop()


def load_drafter(settings: DrafterSettings) -> tuple[Drafter, str]:
    """The drafter over its loaded model, and the digest of its token map. Raises ModelError."""
    use_threads(settings.threads)
    give_back_large()
    tokenizer = load_tokenizer(settings.draft)
    model = load_model(settings.draft, device=settings.device, dtype=settings.dtype)
    # Padded embedding rows beyond the token map are never drafted: the target may not have them.
    use = Use(
        tokens=settings.largest_pass,
        load=settings.load(model.config.max_position_embeddings),
        run=lambda runner, plan: runner.top(plan, MAX_WIDTH),
        build=partial(
            ModelRunner,
            vocab_size=tokenizer.vocab_size,
            tiled=settings.has_whole_rounds or None,
            recorded=settings.is_recorded,
        ),
    )
    runner, pool = place(model, settings, use)
    give_back_freed()
    end_ids = tokenizer.eos_token_ids | set(runner.eos_token_ids)
    grammars = Grammars(tokenizer, vocab_size=runner.vocab_size, end_ids=end_ids)
    drafter = Drafter(
        runner,
        pool,
        max_tokens=settings.max_level_tokens,
        catch_up=settings.catch_up,
        warm_chunk=settings.warm_chunk,
        compile_schema=grammars.compile,
        search=runner.beams if settings.has_whole_rounds else None,
    )
    return drafter, tokenizer.token_map_digest


if __name__ == "__main__":
    main()
