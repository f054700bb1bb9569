"""Who lives, and whether they fit each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.diagnosis.snapshot import Finding, Severity, Snapshot


def members(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether of each kind one lives, and all heartbeats are on time."""
    if snapshot.redis is None:
        yield from _verifiers_seen_by_the_gateway(snapshot)
        return
    losses = {
        "verifier": (Severity.PROBLEM, "nothing is served"),
        "drafter": (Severity.WARNING, "requests are decoded without speculation, so tight targets are missed"),
        "selector": (Severity.WARNING, "no trees are selected, so requests are decoded without speculation"),
    }
    nobody = not any(about is not None for kind in snapshot.redis.members.values() for about in kind.values())
    remedy = "start one; its log says why it ended" + (
        f"; if services do run, they are of another cell than {snapshot.cell}: --cell (ADASERVE_CELL)"
        if nobody
        else ""
    )
    for kind, (severity, why) in losses.items():
        if f"{kind}s" in snapshot.redis.unasked:
            continue
        known = snapshot.redis.members.get(kind, {})
        live = [name for name, about in known.items() if about is not None]
        if not live:
            yield Finding(severity, f"{kind}s", f"no {kind} lives", why, remedy)
        else:
            yield Finding(Severity.FINE, f"{kind}s", f"{', '.join(sorted(live))}")
        late = sorted(set(known) - set(live))
        if late and live:
            yield Finding(
                Severity.WARNING,
                f"{kind}s",
                f"{', '.join(late)} has no heartbeat",
                "it is dead, or its machine has stopped it for more than a second",
                "if it still runs, give it more CPU: others take over what it owns",
            )


def _verifiers_seen_by_the_gateway(snapshot: Snapshot) -> Iterator[Finding]:
    modes = snapshot.answers.get("/admin/mode")
    if modes is None:
        return
    if not modes["verifiers"]:
        yield Finding(
            Severity.PROBLEM,
            "verifiers",
            "the gateway sees no verifier with its token map",
            "nothing is served",
            "start one with the same target model",
        )
    else:
        yield Finding(Severity.FINE, "verifiers", ", ".join(sorted(modes["verifiers"])))


def pair(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether drafters and verifiers have the same token ids."""
    if snapshot.redis is None:
        return
    maps = {kind: _by_map(snapshot.redis.members.get(kind, {})) for kind in ("verifier", "drafter")}
    if not maps["verifier"] or not maps["drafter"]:
        return
    if len(maps["verifier"]) > 1:
        yield Finding(
            Severity.PROBLEM,
            "models",
            f"verifiers have different token maps: {_against(maps['verifier'])}",
            "a request's tokens would mean something else on the other one",
            "give all verifiers of the cell the same target",
        )
    strange = {
        token_map: names for token_map, names in maps["drafter"].items() if token_map not in maps["verifier"]
    }
    if strange:
        names = ", ".join(sorted(name for group in strange.values() for name in group))
        yield Finding(
            Severity.PROBLEM if strange.keys() == maps["drafter"].keys() else Severity.WARNING,
            "models",
            f"the vocabulary of {names} is no verifier's: the same ids are other tokens",
            "verifiers do not use such a drafter, so tight targets are missed",
            "give it a draft model with the target's tokenizer",
        )
    elif len(maps["verifier"]) == 1:
        yield Finding(Severity.FINE, "models", "drafters and verifiers have the same token map")


def _by_map(members: Mapping[str, Mapping[str, Any] | None]) -> dict[str, list[str]]:
    """Token map -> those that live and have it."""
    found: dict[str, list[str]] = {}
    for name, about in members.items():
        if about is not None and "token_map" in about:
            found.setdefault(str(about["token_map"]), []).append(name)
    return found


def _against(maps: Mapping[str, Sequence[str]]) -> str:
    return " against ".join(", ".join(sorted(names)) for names in maps.values())
