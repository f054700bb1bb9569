"""Puts the engine together from its parts."""

from __future__ import annotations

from services.verifier.ask import Control
from services.verifier.bus import VerifierBus
from services.verifier.engine import Engine, Senses
from services.verifier.generation import Generation
from services.verifier.governor import Governor
from services.verifier.intake import Intake
from services.verifier.ring import Ring
from services.verifier.scheduler import Scheduler
from services.verifier.settings import VerifierSettings
from services.verifier.speculator import Speculator
from services.verifier.target import Target
from shared.grammar import Grammars
from shared.inference.blocks import SequenceSlots
from shared.inference.prefixes import PrefixCache
from shared.telemetry import Telemetry


def build_engine(
    settings: VerifierSettings,
    target: Target,
    scheduler: Scheduler[Generation],
    bus: VerifierBus,
    telemetry: Telemetry,
    senses: Senses,
) -> Engine:
    """The engine over a loaded target."""
    speculator = Speculator(
        Ring(0, settings.ring_deadline_cap_ms),
        Governor(),
        telemetry,
        verifier=bus.verifier,
        token_map=target.tokenizer.token_map_digest,
        model=target.name,
        profile=target.table.version,
        control=Control(depth=settings.depth, width=settings.width),
        vocab_size=target.runner.vocab_size,
        max_nodes=settings.max_step_nodes,
    )
    prefixes = PrefixCache(target.pool) if settings.prefix_cache else None
    intake = Intake(
        target.tokenizer,
        lambda: SequenceSlots(target.pool),
        Grammars(target.tokenizer, vocab_size=target.runner.vocab_size, end_ids=target.eos_token_ids).compile,
        prefixes,
        vocab_size=target.runner.vocab_size,
        context_limit=target.context_limit,
        eos_token_ids=target.eos_token_ids,
    )
    return Engine(bus, target.runner, scheduler, speculator, intake, target.table, telemetry, senses, prefixes)
