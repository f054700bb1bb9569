"""The report as one HTML file that asks nobody for anything, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.proof import chart, timeline, words
from bench.proof.sides import Compared, Facts, TenantFigures

WINDOWS = 30  # of a plot over time


def html(facts: Facts, title: str) -> str:
    """Readable without scripts, in print, and in light and dark."""
    environment = Environment(
        loader=PackageLoader("bench.proof"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = words.number
    environment.filters["count"] = words.count
    environment.filters["spread"] = words.spread
    environment.filters["date"] = lambda at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template("report.html.jinja").render(
        facts=facts,
        title=title,
        sentences=words.sentences(facts),
        classes=[*facts.classes, facts.total],
        everyone=next((one for one in facts.tenants if one.name is None), None),
        payback=payback_dates(facts),
        is_cut=is_cut(facts),
        attainment=_rows(facts, "attainment", high=100.0),
        goodput=_rows(facts, "goodput", high=None),
        quality=quality(facts),
        bands=timeline.bands(facts.samples),
        width=chart.WIDTH,
        height=chart.HEIGHT,
        edge=(chart.LEFT, chart.RIGHT, chart.TOP, chart.BOTTOM, chart.LABELS),
    )


def is_cut(facts: Facts) -> bool:
    """Whether an interval of either side ends where it would go on if the figure could."""
    figures = (figure for one in (*facts.classes, facts.total) for figure in (one.attainment, one.goodput))
    return any(side.is_cut for figure in figures for side in (figure.ours, figure.theirs))


def _rows(facts: Facts, figure: str, high: float | None) -> chart.RowPlot:
    rows = []
    for one in (*facts.classes, facts.total):
        found: Compared = getattr(one, figure)
        objective = one.objective if figure == "attainment" else None
        rows.append((one.name, found, objective))
    return chart.in_rows(rows, high=high)


def quality(facts: Facts) -> list[tuple[str, chart.TimePlot]]:
    """Plots of draft quality that there are figures for, with their titles."""
    windows = timeline.windowed(facts.samples, WINDOWS)
    marks: dict[str, Any] = {
        "bands": timeline.bands(facts.samples),
        "events": facts.events,
        "seams": facts.seams_s,
    }
    plots = (
        ("Accepted of the verified draft tokens, %",
         chart.over_time([timeline.acceptance(windows)], ceiling=100.0, is_fixed=True, **marks)),
        ("Accepted tokens for each that was expected (1 is as predicted)",
         chart.over_time([timeline.kept_promises(windows)], ceiling=1.2, **marks)),
        ("Expected calibration error of the draft's probabilities",
         chart.over_time([timeline.calibration(windows)], ceiling=0.1, **marks)),
    )  # fmt: skip
    return [(title, plot) for title, plot in plots if plot is not None]


def payback_dates(facts: Facts) -> dict[str | None, str]:
    """When each tenant's introduction is paid back, had it been on the day of the measurement."""
    return {one.name: _date(facts, one) for one in facts.tenants}


def _date(facts: Facts, one: TenantFigures) -> str:
    """`2026-12-03 to 2027-01-06 (4.0 to 38 days)`; the latest day is where the gain is least."""
    days, gain = one.payback_days, one.gain_per_hour
    if days is None or gain is None:
        return "–"
    if days.low is None:
        return "not shown to pay back"
    soonest = _day(facts, days.low)
    if days.high is None:
        return f"not before {soonest} ({words.number(days.low, 2)} days); a latest day is not within the interval"
    return " to ".join(dict.fromkeys((soonest, _day(facts, days.high)))) + f" ({words.days(days)})"


def _day(facts: Facts, days: float) -> str:
    try:
        return f"{datetime.fromtimestamp(facts.made_at, UTC) + timedelta(days=days):%Y-%m-%d}"
    except OverflowError:
        return "a day not in our time"


def json(facts: Facts) -> dict[str, Any]:
    """All figures; times in seconds."""
    return {
        "sentences": words.sentences(facts),
        "source": dict(facts.source),
        "made_at": facts.made_at,
        "runs": facts.runs,
        "seconds": facts.seconds,
        "coverage": facts.coverage,
        "total": facts.total.json(),
        "classes": {one.name: one.json() for one in facts.classes},
        "run_by_run": [asdict(one) for one in facts.run_by_run],
        "work": facts.work.json(),
        "baseline_work": facts.baseline_work and facts.baseline_work.json(),
        "tokens_per_pass": facts.tokens_per_pass.json(),
        "net_machine_seconds_saved_per_1000_tokens": facts.net_saving_per_1000.json(),
        "tenants": {one.name or "all": one.json() for one in facts.tenants},
        "currency": facts.currency,
        "arms": {one.name: {"met": one.met, "total": one.total, **one.attainment.json()} for one in facts.arms},
        "arms_apart": facts.arms_apart.json(),
        "without_speculation": [asdict(band) for band in timeline.bands(facts.samples)],
        "events": [one.model_dump() for one in facts.events],
        "limits": list(facts.limits),
    }
