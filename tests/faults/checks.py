"""What must hold of every client, at every moment and at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.verifier.sampling import Draw, SamplingParams, draw_tokens
from shared.logprobs import entry_size, pack
from shared.messages import Request
from tests.faults.gateways import Client
from tests.faults.ledger import Violation
from tests.faults.world import World
from tests.ring import adjusted
from tests.table_model import TableModel

POISON_DEATHS = 3


def check_prefix(client: Client, models: Sequence[TableModel], num_checked: int) -> int:
    """Every token follows from those before it, by one of the verifiers' models; returns how many are checked."""
    request = client.request
    for index in range(num_checked, len(client.tokens)):
        context = [*request.prompt.tolist(), *client.tokens[:index]]
        drawn = {_draw(model, request, context) for model in models}
        if client.tokens[index] not in drawn or index >= request.max_tokens:
            raise Violation(
                f"{request.request}: token {index} is {client.tokens[index]}, plain decoding gives {sorted(drawn)}"
            )
        _check_logprobs(client, index, [model.logits(context) for model in models])
    return len(client.tokens)


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
    drawn: int = draw_tokens(logits[None], [Draw(SamplingParams.of(request), len(context))])[0]
    return drawn


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
        _check_journal(client, world)
        return "whole"
    if end == "request_lost" and world.ledger.num_forgotten:
        return "forgotten"
    if end == "generation_failed" and "died without progress" in client.error:
        if world.ledger.takeovers[request.request] < POISON_DEATHS - 1:
            raise Violation(f"{request.request}: poisonous after {world.ledger.takeovers[request.request]} deaths")
        return "poisoned"
    if end == "unavailable" and not client.tokens:
        return "refused"
    raise Violation(f"{request.request}: ended with {end}: {client.error}")


def _check_journal(client: Client, world: World) -> None:
    """What Redis keeps of a finished request is what its client has; unless Redis has forgotten since."""
    entries = world.redis.xrange(world.keys.journal(client.request.request))
    tokens = [token for _, fields in entries for token in np.frombuffer(fields[b"tokens"], "<u4").tolist()]
    entries_told = b"".join(fields.get(b"logprobs", b"") for _, fields in entries)
    if not world.ledger.num_forgotten and entries_told != client.logprobs:
        raise Violation(f"{client.request.request}: log-probabilities of journal and client differ")
    if tokens != client.tokens and not world.ledger.num_forgotten:
        raise Violation(f"{client.request.request}: journal {tokens}, client {client.tokens}")
