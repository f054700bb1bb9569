"""Whether Prometheus has what autoscaling asks it for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cli.diagnosis.snapshot import Finding, Metrics, Severity, Snapshot
from cli.plurals import counted

AFTER_USE = ("_sum", "_count", "_bucket", "_total")  # some of these are there only once something was counted


def scaling(snapshot: Snapshot) -> Iterator[Finding]:
    """Every metric of a trigger is there, for this cell; no service was refused anything by Redis."""
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
    found = [
        finding
        for service, names in snapshot.metrics.needed.items()
        for finding in _of_service(snapshot.metrics, service, names, snapshot.cell)
    ]
    yield from found
    if snapshot.metrics.needed and not found:
        asked = {name for names in snapshot.metrics.needed.values() for name in names}
        yield Finding(
            Severity.FINE, "autoscaling", f"Prometheus has the {counted(len(asked), 'metric')} of triggers"
        )
    if snapshot.metrics.refused:
        yield Finding(
            Severity.PROBLEM,
            "rights",
            f"Redis refused services {counted(round(snapshot.metrics.refused), 'call')} in ten minutes (NOPERM)",
            "what they were about to do was not done",
            "`adaserve doctor` with --redis, as the user operator, tells which user lacks what",
        )


def _of_service(metrics: Metrics, service: str, names: Sequence[str], cell: str) -> Iterator[Finding]:
    absent = [name for name in names if not metrics.series.get(name, (0, 0))[1]]
    if absent:
        is_certain = len(absent) == len(names) or not all(name.endswith(AFTER_USE) for name in absent)
        yield Finding(
            Severity.PROBLEM if is_certain else Severity.WARNING,
            "autoscaling",
            f"Prometheus has no {', '.join(absent)}, by which the {service} is scaled",
            f"how many {service}s there are does not follow the load",
            "scrape /metrics of all services (ServiceMonitor or PodMonitor)"
            + ("" if is_certain else "; in a new cell it comes with the first request"),
        )
    elsewhere = [name for name in names if name not in absent and not metrics.series[name][0]]
    if elsewhere:
        yield Finding(
            Severity.WARNING,
            "autoscaling",
            f'Prometheus has {", ".join(elsewhere)}, but not with the label cell="{cell}"',
            f"the triggers of the {service} ask for that label, and get nothing",
            "put it on the targets, as the chart's monitors do, or set metrics.matchLabels to those there are",
        )
