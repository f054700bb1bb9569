"""Redis and everything that waits in it."""

from __future__ import annotations

from deploy.dashboards.grafana import CELL, Dashboard, Panel, Query, rate

QUEUE = (
    Panel(
        title="Requests in the queue",
        description="That no verifier has claimed yet, by tier. Tier 0 is served first.",
        queries=[Query(f"adaserve:queue_requests{{{CELL}}}", "tier {{tier}}")],
        stacked=True,
    ),
    Panel(
        title="The oldest of them",
        description="How long the request that waits longest in a tier has waited.",
        queries=[Query(f"adaserve:queue_oldest_seconds{{{CELL}}}", "tier {{tier}}")],
        unit="s",
        steps=[(30, "red")],
    ),
    Panel(
        title="Refused at the door",
        description=(
            "By tenants' limits and for API keys. 429s for a full queue are in the overview's answers by status."
        ),
        queries=[
            Query(
                rate("adaserve_rate_limited_total", "limit"),
                "limit {{limit}}",
            ),
            Query(
                rate("adaserve_auth_failures_total", "reason"),
                "key {{reason}}",
            ),
        ],
        unit="reqps",
        stacked=True,
    ),
)

REDIS = (
    Panel(
        title="Memory",
        description=(
            "In use, and the limit; a limit of 0 is none. At the limit new requests are refused and "
            "running ones stand still."
        ),
        queries=[Query(f"max by (kind) (adaserve_redis_memory_bytes{{{CELL}}})", "{{kind}}")],
        unit="bytes",
    ),
    Panel(
        title="Answers the gateways",
        description="By gateway. What the gateways tell of a Redis that is away is what was.",
        queries=[Query(f"adaserve_redis_up{{{CELL}}}", "{{instance}}")],
        kind="state-timeline",
        first="red",
        steps=[(1, "green")],
        least=None,
        names={0: "away", 1: "up"},
    ),
    Panel(
        title="Failed calls",
        description=(
            "Of all services, by kind. A few while Redis restarts are nothing; OOM and MISCONF need somebody."
        ),
        queries=[Query(rate("adaserve_bus_errors_total", "kind"), "{{kind}}")],
        unit="ops",
        stacked=True,
    ),
)

STREAMS = (
    Panel(
        title="Entries of the streams",
        description=(
            "requests_0 to 3 hold at most 8 unread ones each, the rest of a queue waits behind; released: "
            "given back by a verifier; dead: could not be served; select and control are trimmed."
        ),
        queries=[Query(f"max by (stream) (adaserve_stream_entries{{{CELL}}})", "{{stream}}")],
    ),
    Panel(
        title="Dead letters in an hour",
        description="Requests that could not be served at all. The stream `dead` says which and why.",
        queries=[
            Query(f"clamp_min(delta(adaserve:dead_letters{{{CELL}}}[1h]), 0)", "in the stream"),
            Query(f"sum by (reason) (increase(adaserve_dead_letters_total{{{CELL}}}[1h]))", "{{reason}}"),
        ],
        kind="bargauge",
        steps=[(1, "red")],
    ),
    Panel(
        title="Forgotten and put back",
        description="Requests that Redis had forgotten and a gateway put back. Each is an incident of Redis.",
        queries=[Query(f"sum by (status) (increase(adaserve_restored_total{{{CELL}}}[1h]))", "{{status}}")],
        stacked=True,
    ),
)

MESSAGES = (
    Panel(
        title="Commits that were refused",
        description=(
            "FENCED: another verifier has taken the request over; MISSING, BEHIND: Redis has forgotten; "
            "ERROR: it is full."
        ),
        queries=[
            Query(
                rate("adaserve_commits_total", "status", 'status!~"OK|SAME"'),
                "{{status}}",
            )
        ],
        unit="ops",
        stacked=True,
    ),
    Panel(
        title="Hints that were not used",
        description="Messages or rows of the ring. Each costs a step's speculation, never a token.",
        queries=[Query(rate("adaserve_hints_dropped_total", "reason"), "{{reason}}")],
        unit="ops",
        stacked=True,
    ),
    Panel(
        title="Way of tokens to the gateway",
        description=(
            "From the commit to its reading by the gateway, of the entry that has waited longest in each read."
        ),
        queries=[
            Query(f'adaserve:hop_time_seconds:p50_5m{{{CELL},hop="tokens"}}', "p50"),
            Query(f'adaserve:hop_time_seconds:p99_5m{{{CELL},hop="tokens"}}', "p99"),
        ],
        unit="s",
    ),
)

SHARED = (
    Panel(
        title="Age of the API keys",
        description=(
            "Since Redis has confirmed them to a gateway. Old ones go on working, revoked ones among them."
        ),
        queries=[Query(f"max by (instance) (adaserve_api_keys_age_seconds{{{CELL}}})", "{{instance}}")],
        unit="s",
        steps=[(60, "red")],
        width=12,
    ),
    Panel(
        title="Limits counted alone",
        description=(
            "1: this gateway does not reach the counters all gateways share; a tenant may get its limit from each."
        ),
        queries=[Query(f"max by (instance) (adaserve_limits_local{{{CELL}}})", "{{instance}}")],
        kind="state-timeline",
        steps=[(1, "red")],
        least=None,
        names={0: "together", 1: "alone"},
        width=12,
    ),
)

QUEUES = Dashboard(
    uid="adaserve-queues",
    title="AdaServe: Redis and queues",
    description="What waits, how full Redis is, and what of it has gone wrong.",
    rows=[
        ("The queue", QUEUE),
        ("Redis", REDIS),
        ("Streams", STREAMS),
        ("Messages", MESSAGES),
        ("What gateways share", SHARED),
    ],
)
