"""What the services run on and talk to besides: clocks, the collector, the machine."""

from __future__ import annotations

from collections.abc import Iterator

from cli.diagnosis.snapshot import Finding, Severity, Snapshot

SKEW_S = 2.0
BUSY = 1.5  # load over cores


def clocks(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the gateway's clock agrees with Redis'."""
    if snapshot.redis is None or snapshot.gateway_clock_s is None:
        return
    skew = snapshot.gateway_clock_s - snapshot.redis.clock_s
    if abs(skew) > SKEW_S:
        yield Finding(
            Severity.WARNING,
            "clocks",
            f"the gateway's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} Redis'",
            "keys expire, schedules change and quotas count at the wrong time",
            "run NTP on both machines",
        )
    else:
        yield Finding(Severity.FINE, "clocks", f"gateway and Redis agree within {SKEW_S:g} s")


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
