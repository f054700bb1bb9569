"""Whether Redis lets every service do its work, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cli.diagnosis.snapshot import Finding, Redis, Severity, Snapshot
from cli.plurals import counted

SHOWN = 3
HARMLESS = frozenset({"client|setinfo"})  # which client library it is; nobody needs it
WHY = {
    "gateway": "requests are refused, or cannot be cancelled and told about",
    "drafter": "no trees come, so requests are decoded without speculation",
    "selector": "no trees are selected, so requests are decoded without speculation",
    "verifier": "nothing is served, or what it serves is not committed",
}
REMEDY = "load the ACL file that `python -m deploy.acl` writes for this release (ACL LOAD), or"


def rights(snapshot: Snapshot) -> Iterator[Finding]:
    """Users of services, what they may not, and what Redis has refused them."""
    if snapshot.redis is None:
        return
    if snapshot.redis.has_other_cells_users:
        yield _of_another_cell(snapshot.cell)
        return
    told = snapshot.redis.rights or {}
    absent = [user for user, denied in told.items() if denied is None]
    if told and len(absent) == len(told):
        yield from _one_for_all(snapshot)
    else:
        yield from _absent(absent)
    for user, denied in told.items():
        if denied:
            yield Finding(
                Severity.PROBLEM,
                "rights",
                f"Redis does not let the user {user}: {_some(denied)}",
                WHY.get(user, ""),
                f"{REMEDY} ACL SETUSER {user} with what is missing",
            )
    if told and not absent and not any(told.values()):
        yield Finding(Severity.FINE, "rights", f"{', '.join(told)} may what they must")
    yield from _refused(snapshot.redis)


def _of_another_cell(cell: str) -> Finding:
    return Finding(
        Severity.PROBLEM,
        "rights",
        f"none of the services' users may touch the keys of the cell {cell}: Redis has the users of another cell",
        "nothing of this cell can be served from there, or looked at",
        "--cell (ADASERVE_CELL) with the name that services have; or, if it is right, load the ACL file of "
        f"`python -m deploy.acl --cell {cell}`",
    )


def _one_for_all(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.is_redis_local:
        yield Finding(Severity.FINE, "rights", "no users of their own for services, and Redis is on this machine")
        return
    yield Finding(
        Severity.WARNING,
        "rights",
        "services have no users of their own in Redis",
        "whoever gets hold of one service, or of the network, may read and change every request",
        "an ACL file: `python -m deploy.acl`; each service's ADASERVE_REDIS_USERNAME and _PASSWORD_FILE",
    )


def _absent(users: Sequence[str]) -> Iterator[Finding]:
    for user in users:
        yield Finding(
            Severity.PROBLEM,
            "rights",
            f"Redis has no user {user}",
            f"a service that comes as {user} is not let in",
            f"{REMEDY} give the {user} the name of a user that is there",
        )


def _refused(redis: Redis) -> Iterator[Finding]:
    denied = {user: commands or () for user, commands in (redis.rights or {}).items()}
    for refusal in redis.refusals:
        if refusal.of in HARMLESS:
            continue
        when = f"{counted(refusal.count, 'time')}, last {refusal.age_s:.0f} s ago"
        if refusal.reason == "auth":
            yield Finding(
                Severity.PROBLEM,
                "rights",
                f"somebody came as {refusal.user} with a wrong password, {when}",
                "that service does not reach Redis, or somebody tries passwords",
                "compare the Secret behind its ADASERVE_REDIS_PASSWORD_FILE with the ACL file",
            )
        elif not denied.get(refusal.user):  # else told above, with more
            yield Finding(
                Severity.PROBLEM,
                "rights",
                f"Redis has refused {refusal.user} the {refusal.reason} {refusal.of}, {when}",
                WHY.get(refusal.user, ""),
                f"nothing if it was mended since (ACL LOG RESET forgets it); else {REMEDY} "
                f"ACL SETUSER {refusal.user}",
            )


def _some(commands: Sequence[str]) -> str:
    rest = len(commands) - SHOWN
    return ", ".join(commands[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
