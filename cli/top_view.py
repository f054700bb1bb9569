"""A cell as `GET /admin/live` tells it, drawn for a terminal. Pure.

A figure that a gateway of another version does not tell is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

NONE = "–"
MEBIBYTE = 1 << 20
LATE, WARN, GOOD = "bold red", "yellow", "green"

Json = Mapping[str, Any]


def view(snapshot: Json, *, requests: int, trouble: str = "") -> RenderableType:
    """Everything, with the ``requests`` that have the least slack; ``trouble`` is said above it."""
    parts: list[RenderableType] = [Text(trouble, LATE)] if trouble else []
    parts += [headline(snapshot), classes(snapshot), verifiers(snapshot)]
    waiting = queues(snapshot)
    if waiting is not None:
        parts.append(waiting)
    shown = slack(snapshot, requests)
    return Group(*parts, *([shown] if shown is not None else []))


def headline(snapshot: Json) -> Text:
    """Who is there, and what Redis holds."""
    counts = [
        f"{len(snapshot.get(kind) or ())} {kind}" for kind in ("gateways", "selectors", "drafters", "verifiers")
    ]
    redis = snapshot.get("redis") or {}
    memory = f"Redis {number(_mebibytes(redis.get('used_bytes')))} MiB"
    if redis.get("max_bytes"):
        memory += f" of {number(_mebibytes(redis['max_bytes']))}"
    return Text(" · ".join([f"cell {snapshot.get('cell', '?')}", *counts, memory]))


def classes(snapshot: Json) -> Table:
    """Of this gateway's last five minutes."""
    table = _table(
        "class", "objective", "kept", "requests", "target ms", "goodput tok/s", title="promises, last 5 minutes"
    )
    for one in snapshot.get("classes") or ():
        objective, kept = one.get("objective"), one.get("attainment")
        style = "" if objective is None or kept is None else (GOOD if kept >= objective else LATE)
        table.add_row(
            str(one.get("name")),
            percent(objective),
            Text(percent(kept), style),
            number(one.get("requests")),
            number(one.get("tpot_ms")),
            number(one.get("goodput_tokens_per_s")),
        )
    return table


def verifiers(snapshot: Json) -> Table:
    """Of their last ten seconds."""
    names = ("verifier", "mode", "run / wait", "KV", "steps/s", "tok/s", "SLO + rest", "accepted", "calib. error")
    table = _table(*names, title="verifiers, last 10 seconds")
    for one in snapshot.get("verifiers") or ():
        mode, reason = one.get("mode") or "?", one.get("mode_reason") or ""
        words = f"{mode} ({reason})" if reason else mode
        table.add_row(
            str(one.get("name")),
            Text(words, WARN if mode == "full_verification" else ""),
            f"{number(one.get('running'))} / {number(one.get('waiting'))}",
            _share(one.get("kv_used"), one.get("kv_total")),
            number(one.get("steps_per_s")),
            number(one.get("tokens_per_s")),
            f"{number(one.get('slo_nodes'))} + {number(one.get('throughput_nodes'))}",
            _share(one.get("accepted"), one.get("selected")),
            number(one.get("calibration_error")),
        )
    return table


def queues(snapshot: Json) -> Table | None:
    """Tiers in which somebody waits; None where nobody does."""
    tiers = [one for one in (snapshot.get("queue") or {}).get("tiers") or () if one.get("waiting")]
    if not tiers:
        return None
    table = _table("tier", "waiting", "oldest s", title="queues")
    for one in tiers:
        table.add_row(str(one.get("tier")), number(one.get("waiting")), number(one.get("oldest_s")))
    return table


def slack(snapshot: Json, count: int) -> Table | None:
    """Running requests, the ones with the least slack first; None without any."""
    found = list(snapshot.get("requests") or ())
    if not found:
        return None
    names = ("request", "tenant", "class", "state", "tokens", "ms/token", "target", "slack ms")
    shown = found[:count]
    table = _table(*names, title=f"requests with the least slack, {len(shown)} of {len(found)}")
    for one in shown:
        left = one.get("slack_ms")
        table.add_row(
            str(one.get("id")),
            str(one.get("tenant")),
            str(one.get("class")),
            str(one.get("state")),
            number(one.get("output_tokens")),
            number(one.get("tpot_ms")),
            number(one.get("tpot_target_ms")),
            Text(number(left), LATE if left is not None and left < 0 else ""),
        )
    return table


def _table(*names: str, title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for index, name in enumerate(names):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def number(value: Any) -> str:
    """With three digits; – for none."""
    if not isinstance(value, int | float):
        return NONE
    if isinstance(value, int):
        return f"{value:,}"
    decimals = next(digits for least, digits in ((100, 0), (10, 1), (0, 2)) if abs(value) >= least)
    return f"{value:,.{decimals}f}"


def percent(share: Any) -> str:
    return NONE if not isinstance(share, int | float) else f"{100 * share:.1f} %"


def _share(part: Any, whole: Any) -> str:
    known: Sequence[Any] = (part, whole)
    return percent(part / whole) if all(isinstance(one, int | float) for one in known) and whole else NONE


def _mebibytes(count: Any) -> float | None:
    return count / MEBIBYTE if isinstance(count, int | float) else None
