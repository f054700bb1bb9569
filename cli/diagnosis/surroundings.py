"""What the services run on and talk to besides: clocks, the collector, the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cli.diagnosis.snapshot import Finding, Severity, Snapshot
from cli.plurals import counted

REDIS_VARIABLES = "ADASERVE_REDIS_"
SKEW_S = 2.0
BUSY = 1.5  # load over cores


def clocks(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the members' clocks agree with Redis', and the gateway's own where no heartbeat tells of it."""
    if snapshot.redis is None:
        return
    skews = dict(snapshot.redis.skews_s)
    here, there = snapshot.redis.clock_s, snapshot.gateway_clock_s
    if here is not None and there is not None and not any(name.startswith("gateway ") for name in skews):
        skews["gateway"] = there - here
    off = {name: skew_s for name, skew_s in skews.items() if abs(skew_s) > SKEW_S}
    for name, skew_s in off.items():
        kind, _, member = name.partition(" ")
        yield Finding(
            Severity.WARNING,
            "clocks",
            f"the clock of {member or f'the {kind}'} is {abs(skew_s):.0f} s "
            f"{'ahead of' if skew_s > 0 else 'behind'} Redis'",
            "keys expire, schedules change and quotas count at the wrong time"
            if kind == "gateway"
            else "its spans lie at the wrong time, and ways between services are told too long or too short",
            "run NTP on both machines",
        )
    if skews and not off:
        yield Finding(Severity.FINE, "clocks", f"{_told(skews)} and Redis agree within {SKEW_S:g} s")


def _told(skews: Mapping[str, float]) -> str:
    return "gateway" if list(skews) == ["gateway"] else counted(len(skews), "member")


def traces(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether spans arrive anywhere."""
    for endpoint, error in snapshot.otlp.items():
        if error:
            yield Finding(
                Severity.WARNING,
                "traces",
                f"the OTLP endpoint {endpoint} cannot be reached: {error}",
                "spans are lost; nothing else is",
                "start the collector, or mend OTEL_EXPORTER_OTLP_ENDPOINT",
            )
        else:
            yield Finding(Severity.FINE, "traces", f"the OTLP endpoint {endpoint} can be reached")


def variables(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether something is set here that nobody reads. Of what this command would read itself, it is certain."""
    for clause in snapshot.unknown_variables:
        is_read_here = clause.upper().startswith(REDIS_VARIABLES)
        yield Finding(
            Severity.PROBLEM if is_read_here else Severity.WARNING,
            "environment",
            clause,
            "it has no effect here, and a service that is given it does not start",
            "correct its name, or unset it",
        )


def machine(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether this machine has more to do than cores."""
    if snapshot.threads > snapshot.cores:
        yield Finding(
            Severity.WARNING,
            "cpu",
            f"{snapshot.threads} threads are set for a forward pass, and there are {snapshot.cores} cores here",
            "threads that wait for each other spin, and take the cores of the other services",
            "ADASERVE_THREADS and OMP_NUM_THREADS: together no more than the cores",
        )
    if snapshot.load > BUSY * snapshot.cores:
        yield Finding(
            Severity.WARNING,
            "cpu",
            f"the load of this machine is {snapshot.load:.1f} on {snapshot.cores} cores",
            "passes take longer than predicted, and heartbeats may be late",
            "stop what else runs here, or give the services machines of their own",
        )
