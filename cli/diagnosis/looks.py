"""All questions, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cli.diagnosis.gateway import gateway, keys, policy
from cli.diagnosis.members import members, pair
from cli.diagnosis.protocol import groups, library
from cli.diagnosis.rights import rights
from cli.diagnosis.scaling import scaling
from cli.diagnosis.server import queues, redis
from cli.diagnosis.snapshot import Finding, Severity, Snapshot
from cli.diagnosis.speculation import live, modes
from cli.diagnosis.surroundings import clocks, machine, traces, variables


def diagnosed(snapshot: Snapshot) -> list[Finding]:
    """All findings, the worst first."""
    found = [finding for look in LOOKS for finding in look(snapshot)]
    order = list(Severity)
    return sorted(found, key=lambda finding: order.index(finding.severity))


LOOKS: tuple[Callable[[Snapshot], Iterator[Finding]], ...] = (
    gateway, keys, redis, rights, groups, library, members, pair, modes, live, queues, policy, clocks, scaling,
    traces, variables, machine,
)  # fmt: skip
