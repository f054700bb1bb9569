"""Whether Prometheus has what autoscaling asks it for."""

from __future__ import annotations

from collections.abc import Iterator

from cli.diagnosis.snapshot import Finding, Severity, Snapshot
from cli.plurals import counted


def scaling(snapshot: Snapshot) -> Iterator[Finding]:
    """Every metric of a trigger has a value; no service was refused anything by Redis."""
    if snapshot.metrics_error:
        yield Finding(
            Severity.PROBLEM,
            "autoscaling",
            f"Prometheus could not be asked: {snapshot.metrics_error}",
            "KEDA asks there how many replicas are needed",
            "start it, or name the right --prometheus",
        )
    if snapshot.metrics is None:
        return
    is_missing = False
    for service, names in snapshot.metrics.needed.items():
        missing = [name for name in names if not snapshot.metrics.series.get(name)]
        if missing:
            is_missing = True
            yield Finding(
                Severity.PROBLEM,
                "autoscaling",
                f"Prometheus has no {', '.join(missing)}, by which the {service} is scaled",
                f"how many {service}s there are does not follow the load",
                f"scrape /metrics of every {service} (ServiceMonitor, PodMonitor), and load the recording rules "
                "of deploy/k8s/files/rules; compare the labels that the trigger asks for",
            )
    if snapshot.metrics.needed and not is_missing:
        asked = sum(len(names) for names in snapshot.metrics.needed.values())
        yield Finding(Severity.FINE, "autoscaling", f"{counted(asked, 'metric')} of triggers have values")
    if snapshot.metrics.refused:
        yield Finding(
            Severity.PROBLEM,
            "rights",
            f"Redis has refused services {snapshot.metrics.refused:.0f} calls in ten minutes (NOPERM)",
            "what they were about to do was not done",
            "`adaserve doctor` with --redis, as the user operator, tells which user lacks what",
        )
