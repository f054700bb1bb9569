"""A replay's report for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from bench.report import Outcome, Report, attainment, failures, goodput_tokens, percentiles


def table(report: Report) -> Table:
    """A line for each category and one for all."""
    outcomes = report.outcomes
    result = Table(
        title=f"{report.trace} · {report.hardware} · {report.system}", box=box.SIMPLE_HEAD, pad_edge=False
    )
    result.add_column("category")
    for column in (
        "requests",
        "failed",
        "attained",
        "goodput\ntokens",
        "TPOT ms\np50 / p99",
        "TTFT ms\np50 / p99",
    ):
        result.add_column(column, justify="right", no_wrap=True)
    for category in sorted({outcome.category for outcome in outcomes}):
        result.add_row(category, *_cells([one for one in outcomes if one.category == category]))
    result.add_section()
    result.add_row("all", *_cells(outcomes))
    return result


def _cells(outcomes: Sequence[Outcome]) -> list[str]:
    return [
        str(len(outcomes)),
        str(sum(failures(outcomes).values())),
        _number(attainment(outcomes), " %"),
        str(goodput_tokens(outcomes)),
        _both(percentiles(outcome.tpot_ms for outcome in outcomes)),
        _both(percentiles(outcome.ttft_ms for outcome in outcomes)),
    ]


def _both(found: Mapping[str, float | None]) -> str:
    return f"{_number(found['p50'])} / {_number(found['p99'])}"


def _number(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:.1f}{unit}"


def notes(report: Mapping[str, Any], replayed: Mapping[str, Any]) -> list[str]:
    """Lines below the table, from the two JSON objects."""
    share, rate = report["attainment"], report["goodput_tokens_per_s"]
    seen, late = replayed["seen_by_client"], replayed["late_ms"]
    lines = [
        f"attainment {_with_interval(share, '%')} · goodput {_with_interval(rate, 'tokens/s')} · tokens per "
        f"verification {report['tokens_per_verification'] or '–'}",
        *_shares(report["time_share"]),
        f"as the client saw it: attainment {_number(seen['attainment'], ' %')}, TPOT p50 "
        f"{_number(seen['tpot_ms']['p50'], ' ms')}, TTFT p50 {_number(seen['ttft_ms']['p50'], ' ms')}",
        f"sent late by p50 {_number(late['p50'], ' ms')}, p99 {_number(late['p99'], ' ms')}",
        *(f"failed: {count} × {reason}" for reason, count in replayed["failures"].items()),
    ]
    return lines + _cut(replayed) + [_tally(tally) for tally in replayed["tally"]]


def _with_interval(estimate: Mapping[str, float | None], unit: str) -> str:
    interval = "" if estimate["ci95"] is None else f" ± {estimate['ci95']:.1f}"
    return f"{'–' if estimate['mean'] is None else format(estimate['mean'], '.1f')}{interval} {unit}"


def _shares(shares: Mapping[str, float | None]) -> list[str]:
    known = [f"{name} {value:.1%}" for name, value in shares.items() if value is not None]
    return [f"time spent: {', '.join(known)}"] if known else []


def _cut(replayed: Mapping[str, Any]) -> list[str]:
    cut, sizes = replayed["cut"], replayed["prompt_tokens"]
    lines = [f"prompts had {_number(sizes['sent'], ' tokens')} on average, {sizes['planned']:.1f} planned"]
    if any(cut.values()):
        lines.append(
            f"cut to the context of {replayed['context_tokens']} tokens: {cut['prompt']} prompts, "
            f"{cut['output']} outputs, of {replayed['requests']} requests"
        )
    return lines


def _tally(tally: Mapping[str, Any]) -> str:
    if tally["server"] is None:
        return "the server has no /metrics to compare with"
    ours, theirs = (
        f"{one['attained']} of {one['judged']} attained, {one['goodput_tokens']} goodput tokens"
        for one in (tally["client"], tally["server"])
    )
    verdict = "equal" if tally["equal"] else "DIFFERENT (did others use the server?)"
    return f"finished requests with a target: here {ours}; by the server's counters {theirs}: {verdict}"
