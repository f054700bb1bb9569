"""Which promise is kept for whom, and what the ones that are not are missed by."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.dashboards.grafana import CELL, CLASS, CLASSES, Dashboard, Panel, Query, quantile, rate

FINISHED, MET = "adaserve_rollout_finished_total", 'met="true"'


def attained(
    title: str, description: str, series: str, steps: Sequence[tuple[float, str]], least: float | None
) -> Panel:
    """A share of each class that is as good as it is high."""
    return Panel(
        title=title,
        description=description,
        queries=[Query(series, "{{slo_class}}")],
        unit="percentunit",
        kind="stat",
        width=8,
        height=5,
        first="red",
        steps=steps,
        least=least,
        most=1.0,
    )


SHARES = ((0.9, "orange"), (0.95, "green"))

NOW = (
    attained(
        "Attained in 5 minutes",
        "Share of the requests with a target that attained it. Requests that failed are among those that did not.",
        f"adaserve:slo_attained:ratio_5m{{{CLASS}}}",
        SHARES,
        least=0.0,
    ),
    attained(
        "Attained in 3 days",
        "The same over three days, or as long as Prometheus has known the class.",
        f"adaserve:slo_attained:ratio_3d{{{CLASS}}}",
        SHARES,
        least=0.0,
    ),
    attained(
        "Allowance left of 3 days",
        "Of the requests that a class may miss by its objective, the share it has not missed. Below 0 the promise "
        "is broken. Only classes with an objective in the policy have one.",
        f"1 - adaserve:slo_burn:ratio_3d{{{CLASS}}}",
        ((0.0, "orange"), (0.25, "green")),
        least=None,
    ),
)

PROMISES_ROW = (
    Panel(
        title="Attained, and the objective",
        description=("Where the line of a class is below that of its objective, the promise is being broken."),
        queries=[
            Query(f"adaserve:slo_attained:ratio_5m{{{CLASS}}}", "{{slo_class}}"),
            Query(f"adaserve:slo_objective{{{CLASS}}}", "{{slo_class}} objective"),
        ],
        unit="percentunit",
        most=1.0,
    ),
    Panel(
        title="How fast the allowance burns",
        description=(
            "1: as many requests are missed as the objective allows. The alerts fire at 14.4 (with the "
            "five minutes), 6 and 1; of low objectives earlier, as they cannot burn so fast."
        ),
        queries=[
            Query(f"adaserve:slo_burn:ratio_1h{{{CLASS}}}", "{{slo_class}} 1 h"),
            Query(f"adaserve:slo_burn:ratio_6h{{{CLASS}}}", "{{slo_class}} 6 h"),
        ],
        steps=[(1, "yellow"), (6, "orange"), (14.4, "red")],
    ),
    Panel(
        title="What the missed ones were missed by",
        description=(
            "tpot: tokens came too slowly; ttft: the first one came too late (queue, prefill); both; "
            "failed: an error that was not the client's."
        ),
        queries=[
            Query(
                f"sum by (slo_class, reason) (rate(adaserve_slo_missed_total{{{CLASS}}}[$__rate_interval])) "
                f'or on () sum(rate(adaserve_slo_requests_total{{{CLASS},met="false"}}[$__rate_interval]))',
                "{{slo_class}} {{reason}}",
            )
        ],
        unit="reqps",
        stacked=True,
    ),
)

LATENCY = (
    Panel(
        title="Time per output token, p95",
        description="By class. Compare with the class's target (GET /admin/slo).",
        queries=[Query(f"adaserve:tpot_seconds:p95_5m{{{CLASS}}}", "{{slo_class}}")],
        unit="s",
    ),
    Panel(
        title="Time to first token, p95",
        description="By class. What is long here and not in the queue is prefill.",
        queries=[Query(f"adaserve:ttft_seconds:p95_5m{{{CLASS}}}", "{{slo_class}}")],
        unit="s",
    ),
    Panel(
        title="Wait for a verifier, p95",
        description="By tier, from the queue entry to its claim. Tier 0 is served first.",
        queries=[
            Query(quantile(0.95, "adaserve_queue_wait_seconds", "tier"), "tier {{tier}}"),
        ],
        unit="s",
    ),
)

LOAD = (
    Panel(
        title="Requests with a target",
        description="That ended, by class.",
        queries=[Query(f"adaserve:slo_requests:rate_5m{{{CLASS}}}", "{{slo_class}}")],
        unit="reqps",
        stacked=True,
    ),
    Panel(
        title="Goodput",
        description="Output tokens of requests that attained their target, by class.",
        queries=[Query(f"adaserve:goodput_tokens:rate_5m{{{CLASS}}}", "{{slo_class}}")],
        unit="cps",
        stacked=True,
    ),
    Panel(
        title="Staged introduction: attained by arm",
        description="Treatment is served with speculation, control without. 0 while the policy has no rollout.",
        queries=[
            Query(
                f"{rate(FINISHED, 'arm', MET)} / ({rate(FINISHED, 'arm')} > 0) or on () vector(0)",
                "{{arm}}",
            ),
            Query(f"max(adaserve_rollout_share{{{CELL}}}) or vector(0)", "share treated"),
        ],
        unit="percentunit",
        most=1.0,
    ),
)

PROMISES = Dashboard(
    uid="adaserve-promises",
    title="AdaServe: promises by class",
    description="Which promise is kept for whom, and what the ones that are not are missed by.",
    variables=[CLASSES],
    rows=[("Now", NOW), ("Promises", PROMISES_ROW), ("Latency", LATENCY), ("Load", LOAD)],
)
