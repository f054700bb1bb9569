"""The scripts agree with the model in every history, and the model notices when a guard is taken out."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis

from shared.functions import LIBRARY, execute
from shared.scripts import Cancelled, ClaimStatus, CommitStatus, Enqueued, Left, Released, ReseedStatus
from tests.effort import heavy
from tests.unit.shared.protocol_machine import WINDOW, ProtocolMachine

COMMON = settings(
    deadline=None,
    database=None,
    derandomize=True,
    stateful_step_count=30,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)

# The guard's text in scripts.lua, and the same text without the guard. `test_scripts.py` has an example for each
# guard; here it is a random history that has to find the hole.
GUARDS = {
    "fence": ("if not is_owner(epoch, row.epoch) then return 'FENCED' end", ""),
    "unowned epoch": ("epoch == held and epoch ~= UNOWNED_EPOCH", "epoch == held"),
    "position": ("position == row.start and digest == row.start_digest", "digest == row.start_digest"),
    "digest": ("position == row.start and digest == row.start_digest", "position == row.start"),
    "live owner": (
        "if owner ~= '' and owner ~= verifier and is_alive(prefix, owner) then return 'OWNED' end",
        "",
    ),
    "claim compare-and-set": ("if state.owner ~= owner or state.epoch ~= epoch then return 'OWNED' end", ""),
    "connection's number": ("held > number or ", ""),
    "detached cannot leave": (
        "if not is_attached(held_by, number, gateway, attachment) then return 'ATTACHED' end",
        "",
    ),
    "cancel of another's": ("state_gateway == gateway and (state_attachment or '1') == attachment", "true"),
    "room": ("if free <= 0 then return 'FULL' end", ""),
    "tenant's room": ("held < share * free and 'OK' or 'TENANT_FULL'", "'OK'"),
    "end of the busy period": (
        "if redis.call('EXISTS', line.waiting) == 0 then redis.call('DEL', line.tags) end",
        "",
    ),
    "waits once": ("if state.status ~= 'queued' and args[7] == args[6] then", "if args[7] == args[6] then"),
    "what a cancel has used": ("state.traceparent, at)\n  retire(prefix, id, at)", "state.traceparent, at)"),
    "longest chain wins": ("if here < tonumber(given.position) then return 'OK' end", "do return 'OK' end"),
}


# What a campaign is worth nothing without; the other statuses are common or have their examples.
REACHED = {
    ("commit", CommitStatus.FENCED),
    ("commit", CommitStatus.SAME),
    ("commit", CommitStatus.BEHIND),
    ("commit", CommitStatus.CANCELLED),
    ("claim", ClaimStatus.OWNED),
    ("claim", ClaimStatus.POISON),
    ("enqueue", Enqueued.FULL),
    ("release", Released.FENCED),
    ("attach", "DETACHED"),
    ("leave", Left.ATTACHED),
    ("leave", Left.OK),
    ("cancel", Cancelled.ATTACHED),
    ("reseed", ReseedStatus.FENCED),
    ("reseed", ReseedStatus.UNNEEDED),
}


def machine_on(client: Redis, library: str) -> type[ProtocolMachine]:
    client.function_flush()
    assert library.count("local WINDOW = 8\n") == 1
    execute(client, ("FUNCTION", "LOAD", library.replace("local WINDOW = 8\n", f"local WINDOW = {WINDOW}\n")))
    return type("Machine", (ProtocolMachine,), {"client": client, "reached": set()})


@pytest.mark.timeout(300)
def test_every_history_agrees_with_the_model(redis_client: Redis) -> None:
    """Longer and longer ones, until everything has been reached that the campaign is there for."""
    machine = machine_on(redis_client, LIBRARY)
    for length in (40, 50, 60, 70, 80):
        run_state_machine_as_test(machine, settings=settings(COMMON, max_examples=100, stateful_step_count=length))
        if machine.reached >= REACHED:
            break
    assert REACHED - machine.reached == set()


FIRST, *OTHERS = GUARDS


@pytest.mark.parametrize("guard", [FIRST, *(pytest.param(guard, marks=heavy) for guard in OTHERS)])
def test_a_missing_guard_is_noticed(redis_client: Redis, guard: str) -> None:
    line, without = GUARDS[guard]
    assert LIBRARY.count(line) == 1
    machine = machine_on(redis_client, LIBRARY.replace(line, without))
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(machine, settings=settings(COMMON, max_examples=400))
