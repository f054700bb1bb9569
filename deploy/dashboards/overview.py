"""Whether all is well, on one screen; from here the other dashboards go on."""

from __future__ import annotations

from deploy.dashboards.grafana import CELL, Dashboard, Panel, Query, quantile, rate
from deploy.dashboards.promises import SHARES, attained
from deploy.dashboards.speculation import TOKENS_A_VERIFICATION

RED, AMBER = "red", "orange"

NOW = (
    Panel(
        title="Alerts that fire",
        description="Anything but 0: open the alert, its runbook entry says what to do.",
        queries=[Query('count(ALERTS{alertname=~"AdaServe.*",alertstate="firing"}) or vector(0)')],
        kind="stat",
        width=4,
        height=5,
        steps=[(1, RED)],
    ),
    attained(
        "Promises kept",
        "Of the requests with a target that ended in the last five minutes, the share that attained it, by class.",
        f"adaserve:slo_attained:ratio_5m{{{CELL}}}",
        SHARES,
        least=0.0,
    ),
    Panel(
        title="Oldest in the queue",
        description="How long the request that waits longest for a verifier has waited, over all tiers.",
        queries=[Query(f"max(adaserve:queue_oldest_seconds{{{CELL}}})")],
        unit="s",
        kind="stat",
        width=4,
        height=5,
        steps=[(5, AMBER), (30, RED)],
    ),
    Panel(
        title="Verifiers that speculate",
        description=(
            "Share of the verifiers that use drafted tokens now. The others decode plainly: right, but slower."
        ),
        queries=[Query(f"avg(adaserve_mode_speculative{{{CELL}}})")],
        unit="percentunit",
        kind="stat",
        width=4,
        height=5,
        first=AMBER,
        steps=[(1, "green")],
        most=1.0,
    ),
    Panel(
        title="Redis",
        description="Whether Redis answers the gateways. Without it nothing is accepted or served.",
        queries=[Query(f"max(adaserve_redis_up{{{CELL}}})")],
        kind="stat",
        width=4,
        height=5,
        first=RED,
        steps=[(1, "green")],
        least=None,
        names={0: "away", 1: "up"},
    ),
)

TRAFFIC = (
    Panel(
        title="Tokens",
        description="Output tokens committed, and those of requests that attained their target: the goodput.",
        queries=[
            Query(rate("adaserve_tokens_committed_total"), "committed"),
            Query(rate("adaserve_goodput_tokens_total"), "goodput"),
        ],
        unit="cps",
    ),
    Panel(
        title="Answers by status",
        description="429 is a refusal (limits, a full queue); 5xx is ours to mend; 499 is a client that has left.",
        queries=[
            Query(
                rate("adaserve_http_requests_total", "status", 'route=~"/v1/.*"'),
                "{{status}}",
            )
        ],
        unit="reqps",
        stacked=True,
    ),
    Panel(
        title="Requests under way",
        description="Queued in Redis, and at the verifiers: waiting for KV, being prefilled, being decoded.",
        queries=[
            Query(f"sum(adaserve:queue_requests{{{CELL}}})", "queued"),
            Query(f"sum by (state) (adaserve_requests{{{CELL}}})", "{{state}}"),
        ],
        stacked=True,
    ),
)

LATENCY = (
    Panel(
        title="Time to first token",
        description="From a request's arrival at the gateway to its first token there. Buckets end at 60 s.",
        queries=[Query(quantile(q, "adaserve_ttft_seconds"), f"p{round(100 * q)}") for q in (0.5, 0.95, 0.99)],
        unit="s",
    ),
    Panel(
        title="Time per output token",
        description=(
            "Of whole requests: (last token − first token) / (tokens − 1). This is what most targets are about."
        ),
        queries=[Query(quantile(q, "adaserve_tpot_seconds"), f"p{round(100 * q)}") for q in (0.5, 0.95, 0.99)],
        unit="s",
    ),
    TOKENS_A_VERIFICATION,
)

CELL_ROW = (
    Panel(
        title="What runs",
        description="Instances by service and version. Two versions of one service: a replacement is under way.",
        queries=[Query(f"count by (service, version) (adaserve_info{{{CELL}}})", "{{service}} {{version}}")],
        kind="bargauge",
        first="blue",
    ),
    Panel(
        title="KV memory in use",
        description="Share of the KV blocks in use. At 100 % requests are preempted, or drafted for no more.",
        queries=[Query(f"adaserve:kv_used:ratio{{{CELL}}}", "{{service}} {{instance}}")],
        unit="percentunit",
        most=1.0,
        steps=[(0.95, RED)],
    ),
    Panel(
        title="Why a verifier decodes plainly",
        description="The reason, as in GET /admin/mode; nothing is drawn where a verifier speculates.",
        queries=[
            Query(f"sum by (instance, reason) (adaserve_full_verification{{{CELL}}})", "{{instance}} {{reason}}")
        ],
        kind="state-timeline",
        first="transparent",
        steps=[(1, AMBER)],
        least=None,
        names={0: " ", 1: "plain"},
    ),
)

OVERVIEW = Dashboard(
    uid="adaserve-overview",
    title="AdaServe: overview",
    description="Whether all is well. The other dashboards say why not.",
    rows=[("Now", NOW), ("Traffic", TRAFFIC), ("Latency", LATENCY), ("The cell", CELL_ROW)],
)
