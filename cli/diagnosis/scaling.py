"""Whether Prometheus has what autoscaling asks it for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cli.diagnosis.snapshot import Finding, Metrics, Severity, Snapshot
from cli.plurals import counted

AFTER_USE = ("_sum", "_count", "_bucket", "_total")  # some of these are there only once something was counted
CHOSEN = ("cell", "namespace")
SCRAPE = "scrape /metrics of all services (ServiceMonitor or PodMonitor)"


def scaling(snapshot: Snapshot) -> Iterator[Finding]:
    """Every series of a trigger is there, with the release's labels; no service was refused anything by Redis."""
    if snapshot.metrics_error:
        yield Finding(
            Severity.PROBLEM,
            "autoscaling",
            f"Prometheus could not be asked: {snapshot.metrics_error}",
            "KEDA asks there how many replicas are needed",
            snapshot.metrics_remedy,
        )
    if snapshot.metrics is None:
        return
    yield from _triggers(snapshot.metrics)
    if snapshot.metrics.refused:
        yield Finding(
            Severity.PROBLEM,
            "rights",
            f"Redis refused services {counted(round(snapshot.metrics.refused), 'call')} in ten minutes (NOPERM)",
            "what they were about to do was not done",
            "`adaserve doctor` with --redis, as the user operator, tells which user lacks what",
        )


def _triggers(metrics: Metrics) -> Iterator[Finding]:
    found = [*_lost(metrics), *_several(metrics), *_absent(metrics)]
    yield from found
    if metrics.needed and not found:
        asked = {selector for group in metrics.needed.values() for selector in group}
        what = f"Prometheus has the {len(asked)} series of triggers with {_told(metrics.labels)}"
        yield Finding(Severity.FINE, "autoscaling", what)


def _lost(metrics: Metrics) -> Iterator[Finding]:
    """Services of which triggers see nothing: they are not scraped, or have other labels."""
    lost = [service for service in metrics.needed if not metrics.has_own(service)]
    if lost and (len(lost) < len(metrics.needed) or not metrics.targets):
        yield _unscraped(lost, _told(metrics.labels))
    elif lost:
        yield _other_labels(metrics, _told(metrics.labels))
    elif metrics.namespace is None and not metrics.namespaces:
        yield _other_labels(metrics, "a namespace, which the chart asks for as well")


def _unscraped(services: Sequence[str], labels: str) -> Finding:
    return Finding(
        Severity.PROBLEM,
        "autoscaling",
        f"Prometheus scrapes no {_listed(services, 'or')} with {labels}: there is no adaserve_info",
        f"how many {_listed([f'{service}s' for service in services])} there are does not follow the load",
        f"{SCRAPE}: with the labels that Prometheus looks for, and let in by networkPolicy.metrics",
    )


def _other_labels(metrics: Metrics, asked: str) -> Finding:
    there = sorted({_told(labels) or "neither cell nor namespace" for labels in metrics.targets})
    return Finding(
        Severity.WARNING,
        "autoscaling",
        f"Prometheus has series of services, but not with {asked}; they have {_listed(there, 'or')}",
        "triggers ask for these labels, and get nothing",
        "put them on the targets, as the chart's monitors do; or set metrics.matchLabels to those there are, and "
        'tell this command --cell and --namespace (--namespace "" where matchLabels has none)',
    )


def _several(metrics: Metrics) -> Iterator[Finding]:
    if metrics.namespace is None and len(metrics.namespaces) > 1:
        yield Finding(
            Severity.UNKNOWN,
            "autoscaling",
            f"a cell of this name is in the namespaces {_listed(metrics.namespaces)}",
            "what is missing in one of them is hidden by the others",
            "name one with --namespace",
        )


def _absent(metrics: Metrics) -> Iterator[Finding]:
    """Single series of services that are scraped; whose absence nothing else has told."""
    told = {f'adaserve_info{{service="{name}"}}' for name in metrics.needed if not metrics.has_own(name)}
    for service in filter(metrics.has_own, metrics.needed):
        absent = [one for one in metrics.needed[service] if not metrics.series.get(one) and one not in told]
        is_new = all(selector.partition("{")[0].endswith(AFTER_USE) for selector in absent)
        if absent:
            yield Finding(
                Severity.WARNING if is_new else Severity.PROBLEM,
                "autoscaling",
                f"Prometheus has no {', '.join(absent)}, by which the {service} is scaled",
                f"how many {service}s there are does not follow the load",
                f"in a new cell it comes with the first request; else {SCRAPE}" if is_new else SCRAPE,
            )


def _told(labels: Mapping[str, str]) -> str:
    return ", ".join(f'{name}="{labels[name]}"' for name in CHOSEN if name in labels)


def _listed(names: Sequence[str], word: str = "and") -> str:
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), names[-1])))
