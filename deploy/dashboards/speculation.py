"""What drafting brings and what it costs: acceptance, calibration, the budget, and the time of an iteration."""

from __future__ import annotations

from deploy.dashboards.grafana import CELL, Dashboard, Panel, Query, rate

TOKENS_A_VERIFICATION = Panel(
    title="Tokens a verification",
    description="Output tokens for each pass of a request through the target model; 1 is plain decoding.",
    queries=[Query(f"adaserve:tokens_per_verification:ratio_5m{{{CELL}}}", "tokens {{cell}}")],
)

YIELD = (
    Panel(
        title="Drafted tokens, verified",
        description=(
            "Accepted, and wasted: verified and not accepted. Waste is the price of trees; it costs time "
            "of the target."
        ),
        queries=[
            Query(rate("adaserve_draft_tokens_accepted_total"), "accepted"),
            Query(rate("adaserve_tokens_wasted_total"), "wasted"),
        ],
        unit="cps",
        stacked=True,
    ),
    TOKENS_A_VERIFICATION,
    Panel(
        title="Acceptance by depth",
        description=(
            "Of the drafted edges at each depth below an accepted node, the share that the target took. "
            "Wide trees have more edges than can be taken, so compare with the past, not with 1."
        ),
        queries=[Query(f"adaserve:draft_edges_accepted:ratio_5m{{{CELL}}}", "depth {{depth}}")],
        unit="percentunit",
        most=1.0,
    ),
)

QUALITY = (
    Panel(
        title="Accepted against expected",
        description=(
            "1: as many drafted tokens hold as calibration expects. Below 0.75 or above 1.33 an alert fires."
        ),
        queries=[Query(f"adaserve:draft_realised:ratio_10m{{{CELL}}}", "realised / expected {{cell}}")],
        steps=[(0.75, "green"), (1.33, "orange")],
        first="orange",
    ),
    Panel(
        title="Calibration error",
        description=(
            "Mean distance of predicted acceptance from what happened, of the draft's own odds and of the "
            "calibrated ones."
        ),
        queries=[Query(f"max by (kind) (adaserve_calibration_error{{{CELL}}})", "{{kind}}")],
        unit="percentunit",
        steps=[(0.1, "orange")],
    ),
    Panel(
        title="Confident drafts that were rejected",
        description=(
            "Of drafted tokens with odds of nine in ten or better; at most 10 % should be. Above 25 % an "
            "alert fires."
        ),
        queries=[Query(f"adaserve:confident_rejected:ratio_15m{{{CELL}}}", "rejected {{cell}}")],
        unit="percentunit",
        steps=[(0.1, "orange"), (0.25, "red")],
    ),
)

BUDGET = (
    Panel(
        title="Budget of a selection",
        description="Roots and drafted nodes of one verification, all requests together.",
        queries=[Query(f"adaserve:budget_used:mean_5m{{{CELL}}}", "tokens {{cell}}")],
    ),
    Panel(
        title="What the budget is spent on",
        description=(
            "slo: nodes that a request needs to be on target; throughput: what is left, wherever it brings most."
        ),
        queries=[Query(f"adaserve:budget_phase:ratio_5m{{{CELL}}}", "{{phase}}")],
        unit="percentunit",
        most=1.0,
        stacked=True,
    ),
    Panel(
        title="Drafted, selected, accepted",
        description="Candidates drafted, those of them that were sent to verification, and those that held.",
        queries=[
            Query(rate("adaserve_draft_tokens_proposed_total"), "drafted"),
            Query(rate("adaserve_draft_tokens_selected_total"), "selected"),
            Query(rate("adaserve_draft_tokens_accepted_total"), "accepted"),
        ],
        unit="cps",
    ),
)

TIME = (
    Panel(
        title="Time of a step by part",
        description=(
            "Mean. forward and commit are the verifier's; draft and select are waited for, and total is "
            "the step without them."
        ),
        queries=[Query(f"adaserve:step_time_seconds:mean_5m{{{CELL}}}", "{{part}}")],
        unit="s",
    ),
    Panel(
        title="Way between services, p99",
        description=(
            "From a message's sending to its reading, the reader being busy included. By the clocks of "
            "two machines."
        ),
        queries=[Query(f"adaserve:hop_time_seconds:p99_5m{{{CELL}}}", "{{hop}}")],
        unit="s",
    ),
    Panel(
        title="Trees: time and misses",
        description=(
            "From the question to the drafter until its trees are heard; and the share of questions "
            "without an answer in time."
        ),
        queries=[
            Query(f"adaserve:ring_time_seconds:p50_5m{{{CELL}}}", "p50 (s)"),
            Query(f"adaserve:ring_time_seconds:p99_5m{{{CELL}}}", "p99 (s)"),
            Query(f"adaserve:ring_missed:ratio_5m{{{CELL}}}", "missed (share)"),
        ],
    ),
)

MACHINE = (
    Panel(
        title="Error of predicted step times, median",
        description=(
            "Trees are sized by these predictions. Above 50 % an alert fires; above 100 % speculation "
            "ends by itself."
        ),
        queries=[Query(f"adaserve:prediction_error:p50_10m{{{CELL}}}", "error {{cell}}")],
        unit="percentunit",
        steps=[(0.5, "orange"), (1.0, "red")],
    ),
    Panel(
        title="Switches of the mode",
        description="Between speculation and plain decoding, by the reason for the latter, in five minutes.",
        queries=[Query(f"sum by (reason) (increase(adaserve_mode_switches_total{{{CELL}}}[5m]))", "{{reason}}")],
        stacked=True,
    ),
    Panel(
        title="Forward passes by kind",
        description="speculative: with trees; bare: without, though requests are decoded; prefill: prompts only.",
        queries=[Query(rate("adaserve_steps_total", "kind"), "{{kind}}")],
        unit="ops",
        stacked=True,
    ),
)

SPECULATION = Dashboard(
    uid="adaserve-speculation",
    title="AdaServe: speculation",
    description="What drafting brings, what it costs, and whether the draft model still fits.",
    rows=[
        ("What it brings", YIELD),
        ("Whether the draft model fits", QUALITY),
        ("The budget", BUDGET),
        ("Time", TIME),
        ("The machine and the mode", MACHINE),
    ],
)
