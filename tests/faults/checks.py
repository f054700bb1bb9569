"""What must hold of every client, at every moment and at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.verifier.sampling import Draw, SamplingParams, draw_token
from shared.logprobs import entry_size, pack
from shared.messages import Request
from tests.faults.clients import Client
from tests.faults.ledger import Violation
from tests.faults.world import World
from tests.ring import adjusted
from tests.table_model import TableModel

POISON_DEATHS = 3


def check_prefix(client: Client, models: Sequence[TableModel]) -> None:
    """Every token follows from those before it, by one of the verifiers' models."""
    request = client.request
    if client.has_odd_flags:
        raise Violation(f"{request.request}: not every token says where it comes from")
    for index in range(client.num_checked, len(client.tokens)):
        context = [*request.prompt.tolist(), *client.tokens[:index]]
        drawn = {_draw(model, request, context) for model in models}
        if client.tokens[index] not in drawn or index >= request.max_tokens:
            raise Violation(
                f"{request.request}: token {index} is {client.tokens[index]}, plain decoding gives {sorted(drawn)}"
            )
        _check_logprobs(client, index, [model.logits(context) for model in models])
    client.num_checked = len(client.tokens)


def _check_logprobs(client: Client, index: int, rows: Sequence[npt.NDArray[np.float64]]) -> None:
    """The token's entry is one of the models' own; no request gets what it has not asked for."""
    count = client.request.logprobs
    size = entry_size(count)
    found = client.logprobs[index * size : (index + 1) * size]
    token = client.tokens[index]
    allowed = [b"" if count is None else pack(row[None], [token], count) for row in rows]
    if found not in allowed:
        raise Violation(f"{client.request.request}: token {index} has log-probabilities of another one")


def _draw(model: TableModel, request: Request, context: list[int]) -> int:
    logits = adjusted(model.logits(context), request, context[len(request.prompt) :])
    return draw_token(logits, Draw(SamplingParams.of(request), len(context)))


def check_end(client: Client, world: World) -> str:
    """Ended exactly once, whole, or with an error the faults explain; returns how."""
    request = client.request
    if client.has_left:
        return "left"
    if len(client.ends) != 1:
        raise Violation(f"{request.request}: {len(client.ends)} ends: {client.ends}")
    (end,) = client.ends
    if end == "length":
        if len(client.tokens) != request.max_tokens:
            raise Violation(f"{request.request}: {len(client.tokens)} of {request.max_tokens} tokens delivered")
        _check_memory(client, world)
        return "whole, read anew" if client.num_changed else "whole"
    if end == "generation_failed" and "died without progress" in client.error:
        if world.ledger.takeovers[request.request] < POISON_DEATHS - 1:
            raise Violation(f"{request.request}: poisonous after {world.ledger.takeovers[request.request]} deaths")
        return "poisoned"
    explained = _explained(end, client, world)
    if not explained:
        raise Violation(f"{request.request}: ended with {end}: {client.error}")
    return explained


def check_usage(world: World) -> None:
    """Every request that ended was counted, once, with the tokens that Redis then held."""
    used, known = world.used, world.ledger.used
    counted = (used.requests, used.prompt_tokens, used.output_tokens)
    if counted[:2] != (known.requests, known.prompt_tokens) or not (
        counted[2] >= known.output_tokens if world.ledger.num_cancelled else counted[2] == known.output_tokens
    ):
        raise Violation(f"{used} is on account, the wire tells {known}, {world.ledger.num_cancelled} cancelled")


def _explained(end: str, client: Client, world: World) -> str:
    """How the faults explain this error; empty if they do not."""
    was_alone = client.num_cut or client.num_left  # for a while no gateway had what it had been sent
    forgot, odds = world.ledger.num_forgotten, world.dice.odds
    if end in ("request_lost", "stream_not_found") and was_alone and forgot:
        return "lost with its gateway and Redis"
    if end == "request_lost" and forgot and odds.ties:
        return "ended on another chain before its gateway noticed"
    if end == "cancelled" and client.num_left and not odds.grace_s:
        return "back too late"
    if end == "unavailable" and not client.tokens:
        return "refused"
    return ""


def _check_memory(client: Client, world: World) -> None:
    """What Redis keeps of a finished request, and what was told before, is what its client has.

    Unless Redis has forgotten: then a shorter journal is excusable. Where the models differ it may also be another
    one, if all of the client's answer was committed, though perhaps not told, before Redis forgot it; and with
    gateway and Redis lost at once even other tokens than those told before, if they are told from the beginning.
    """
    request, forgot = client.request.request, world.ledger.num_forgotten
    must_agree = not forgot or (request in world.ledger.finished and not world.dice.odds.ties)
    entries = world.redis.xrange(world.keys.journal(request))
    tokens = [token for _, fields in entries for token in np.frombuffer(fields[b"tokens"], "<u4").tolist()]
    entries_told = b"".join(fields.get(b"logprobs", b"") for _, fields in entries)
    if must_agree and entries_told != client.logprobs:
        raise Violation(f"{request}: log-probabilities of journal and client differ")
    if tokens != client.tokens and must_agree:
        raise Violation(f"{request}: journal {tokens}, client {client.tokens}")
    if client.num_changed and not forgot:
        raise Violation(f"{request}: its stream has changed, and Redis has forgotten nothing")
    if client.before != client.tokens[: len(client.before)] and not forgot:
        raise Violation(f"{request}: told {client.before} before, now {client.tokens}")
