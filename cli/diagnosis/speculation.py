"""Whether verifiers speculate, on probabilities that hold, and soon enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cli.diagnosis.snapshot import Finding, Severity, Snapshot

CALIBRATION_OFF = 0.1
MIN_JUDGED = 200  # drafted tokens accepted or rejected; of fewer the error is mostly chance
OLDEST_S = 10.0
HARMLESS = ("", "operator")


def modes(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether verifiers speculate, and if not, why not."""
    told = snapshot.answers.get("/admin/mode")
    if told is None:
        return
    for place, order in told["orders"].items():
        if order["mode"] != "auto":
            yield Finding(
                Severity.WARNING,
                "modes",
                f"{place} is ordered to {order['mode']}: {order['reason'] or 'no reason given'}",
                "the order holds until it is withdrawn",
                f"{_withdrawal(place)}, when it is no longer needed",
            )
    for name, mode in told["verifiers"].items():
        reason = mode["reason"] or ""
        if mode["mode"] == "full_verification" and reason not in HARMLESS:
            yield Finding(
                Severity.PROBLEM if reason == "ring_deadline" else Severity.WARNING,
                "modes",
                f"{name} decodes without speculation: {reason}",
                "tight targets are missed meanwhile",
                MODE_REMEDIES.get(reason, "docs/operations.md, verification modes"),
            )
        elif mode["mode"] == "speculative":
            yield Finding(
                Severity.FINE, "modes", f"{name} speculates" + (f", cautiously: {reason}" if reason else "")
            )


def _withdrawal(place: str) -> str:
    """The command that takes back the order of a place: `cell`, `tenant:<name>` or `class:<name>`."""
    kind, _, name = place.partition(":")
    return f"adaserve mode auto --{kind} {name}" if name else "adaserve mode auto"


MODE_REMEDIES = {
    "no_drafter": "start a drafter with the same token map",
    "ring_deadline": "the breaker is open: see whether drafter and selector have CPU, and their distance to Redis",
    "acceptance_collapse": "the draft fits the target no more: retrain it, or give the drafter the right model",
    "calibration_drift": "it tries again by itself; if it comes back, retrain the draft",
    "latency_prediction": "passes take other times than predicted: look for others that use the same CPU or GPU",
}


def _judged(verifier: Mapping[str, Any]) -> int:
    return sum(
        int(depth.get("accepted") or 0) + int(depth.get("rejected") or 0)
        for depth in verifier.get("acceptance_by_depth") or ()
    )


def live(snapshot: Snapshot) -> Iterator[Finding]:
    """What the gateway's live view of the cell says of calibration and queues."""
    told = snapshot.answers.get("/admin/live")
    if not isinstance(told, Mapping):
        return
    for verifier in told.get("verifiers", ()):
        error = verifier.get("calibration_error")
        if isinstance(error, int | float) and error > CALIBRATION_OFF and _judged(verifier) >= MIN_JUDGED:
            yield Finding(
                Severity.WARNING,
                "calibration",
                f"{verifier.get('name')}: calibrated probabilities are off by {error:.0%}",
                "nodes are selected that are not accepted, and the other way round",
                "it learns by itself; if it stays, retrain the draft",
            )
    for tier in told.get("queue", {}).get("tiers", ()):
        if isinstance(tier.get("oldest_s"), int | float) and tier["oldest_s"] > OLDEST_S:
            yield Finding(
                Severity.WARNING,
                "queues",
                f"the oldest request of tier {tier.get('tier')} has waited for {tier['oldest_s']:.0f} s",
                "first tokens come late",
                "one more verifier, or limits for the tenants that fill the queue",
            )
