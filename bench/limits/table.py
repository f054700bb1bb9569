"""The report in lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.limits.comparison import Change


def number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return "–"
    if value != value:
        return "?"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def verdict(figure: Mapping[str, Any]) -> str:
    """The target and whether it is met; nothing without one."""
    if "target" not in figure:
        return ""
    sign = "≥" if figure["at_least"] else "≤"
    goal = f", goal {number(figure['goal'])}" if "goal" in figure else ""
    return f"target {sign} {number(figure['target'])}{goal}: {'met' if figure['met'] else 'not met'}"


def section_lines(name: str, section: Mapping[str, Any]) -> list[str]:
    """One section: its placement, a line for each figure, its notes."""
    figures: Sequence[Mapping[str, Any]] = section["figures"]
    width = max((len(figure["name"]) for figure in figures), default=0)
    lines = [f"{name} · {section['placement']}"]
    for figure in figures:
        p99 = f"p99 {number(figure['p99'])}" if "p99" in figure else ""
        floor = ""
        if "floor" in figure:
            floor = f"{number(figure['ratio'])} × floor {number(figure['floor'])} ({figure['floor_is']})"
        line = f"  {figure['name']:{width}}  {number(figure['value']):>7} {figure['unit']:6} {p99:12} {floor}"
        lines.append(f"{line}  {verdict(figure)}".rstrip())
    return lines + [f"  {note}" for note in section["notes"]]


def comparison_lines(found: Sequence[Change], differing: Sequence[str]) -> list[str]:
    """Each figure then and now."""
    title = "beside the baseline"
    if differing:
        title += f", which is of another machine ({', '.join(differing)} differ): only ratios are compared"
    width = max((len(f"{change.section} {change.figure}") for change in found), default=0)
    return [
        title,
        *(
            f"  {change.section + ' ' + change.figure:{width}}  {number(change.before):>7} -> "
            f"{number(change.now):>7} {change.what:8} {100 * change.relative:+6.0f} %  {change.word}"
            for change in found
        ),
    ]
