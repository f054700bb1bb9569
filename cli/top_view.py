"""A cell as `GET /admin/live` tells it, drawn for a terminal. Pure.

A figure that a gateway of another version does not tell is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.plurals import counted

NONE = "–"
MEBIBYTE = 1 << 20
LATE, WARN, GOOD = "bold red", "yellow", "green"

GAP, EDGE = 3, 1  # between two columns: each one's padding, and the box; on either side: the box

Json = Mapping[str, Any]
Row = Sequence[str | Text]


class Column(NamedTuple):
    """A heading; the higher ``spare``, the sooner it goes where room is short, 0 never. ``wraps``: may break."""

    name: str
    spare: int = 0
    wraps: bool = False


CLASS_COLUMNS = (
    Column("class"), Column("objective", 1), Column("kept"), Column("requests", 2), Column("target ms", 3),
    Column("goodput tok/s", 4),
)  # fmt: skip
VERIFIER_COLUMNS = (
    Column("verifier"), Column("mode", wraps=True), Column("run / wait", 2), Column("KV", 4), Column("steps/s", 5),
    Column("tok/s", 1), Column("SLO + rest", 6), Column("accepted", 3), Column("calib. error", 7),
)  # fmt: skip
QUEUE_COLUMNS = (Column("tier"), Column("waiting"), Column("oldest s"))
REQUEST_COLUMNS = (
    Column("request"), Column("tenant", 3), Column("class", 4), Column("state", 5), Column("tokens", 6),
    Column("ms/token", 1), Column("target", 2), Column("slack ms"),
)  # fmt: skip


def view(snapshot: Json, *, requests: int, width: int, trouble: str = "") -> RenderableType:
    """Everything, with the ``requests`` that have the least slack; ``trouble`` is said above it.

    Columns that ``width`` has no room for are left out, the least needed first.
    """
    parts: list[RenderableType] = [Text(trouble, LATE)] if trouble else []
    parts += [headline(snapshot), classes(snapshot, width), verifiers(snapshot, width)]
    waiting = queues(snapshot, width)
    if waiting is not None:
        parts.append(waiting)
    shown = slack(snapshot, requests, width)
    return Group(*parts, *([shown] if shown is not None else []))


def headline(snapshot: Json) -> Text:
    """Who is there, and what Redis holds."""
    counts = [
        counted(len(snapshot.get(f"{kind}s") or ()), kind)
        for kind in ("gateway", "selector", "drafter", "verifier")
    ]
    redis = snapshot.get("redis") or {}
    memory = f"Redis {number(_mebibytes(redis.get('used_bytes')))} MiB"
    if redis.get("max_bytes"):
        memory += f" of {number(_mebibytes(redis['max_bytes']))}"
    return Text(" · ".join([f"cell {snapshot.get('cell', '?')}", *counts, memory]))


def classes(snapshot: Json, width: int) -> Table:
    """Of this gateway's last five minutes."""
    rows: list[Row] = []
    for one in snapshot.get("classes") or ():
        objective, kept = one.get("objective"), one.get("attainment")
        style = "" if objective is None or kept is None else (GOOD if kept >= objective else LATE)
        row = (
            str(one.get("name")),
            percent(objective),
            Text(percent(kept), style),
            number(one.get("requests")),
            number(one.get("tpot_ms")),
            number(one.get("goodput_tokens_per_s")),
        )
        rows.append(row)
    return _table(CLASS_COLUMNS, rows, title="promises, last 5 minutes", width=width)


def verifiers(snapshot: Json, width: int) -> Table:
    """Of their last ten seconds."""
    rows: list[Row] = []
    for one in snapshot.get("verifiers") or ():
        mode, reason = one.get("mode") or "?", one.get("mode_reason") or ""
        words = f"{mode} ({reason})" if reason else mode
        row = (
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
        rows.append(row)
    return _table(VERIFIER_COLUMNS, rows, title="verifiers, last 10 seconds", width=width)


def queues(snapshot: Json, width: int) -> Table | None:
    """Tiers in which somebody waits; None where nobody does."""
    tiers = [one for one in (snapshot.get("queue") or {}).get("tiers") or () if one.get("waiting")]
    if not tiers:
        return None
    rows = [(str(one.get("tier")), number(one.get("waiting")), number(one.get("oldest_s"))) for one in tiers]
    return _table(QUEUE_COLUMNS, rows, title="queues", width=width)


def slack(snapshot: Json, count: int, width: int) -> Table | None:
    """Running requests, the ones with the least slack first; None without any."""
    found = list(snapshot.get("requests") or ())
    if not found:
        return None
    shown = found[:count]
    rows: list[Row] = []
    for one in shown:
        left = one.get("slack_ms")
        row = (
            str(one.get("id")),
            str(one.get("tenant")),
            str(one.get("class")),
            str(one.get("state")),
            number(one.get("output_tokens")),
            number(one.get("tpot_ms")),
            number(one.get("tpot_target_ms")),
            Text(number(left), LATE if left is not None and left < 0 else ""),
        )
        rows.append(row)
    title = f"requests with the least slack, {len(shown)} of {len(found)}"
    return _table(REQUEST_COLUMNS, rows, title=title, width=width)


def _table(columns: Sequence[Column], rows: Sequence[Row], *, title: str, width: int) -> Table:
    """The columns that there is room for, and as much as there is room for of the names in the first."""
    kept = list(range(len(columns)))
    for place in sorted(kept, key=lambda place: columns[place].spare, reverse=True):
        if _width(columns, rows, kept) <= width or not columns[place].spare:
            break
        kept.remove(place)
    others = _width(columns, rows, kept) - _width(columns, rows, kept[:1])
    room = max(len(columns[0].name), width - others - 2 * EDGE)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for place in kept:
        column = columns[place]
        table.add_column(column.name, justify="right" if place else "left", no_wrap=not column.wraps)
    for row in rows:
        table.add_row(_cut(str(row[0]), room), *(row[place] for place in kept[1:]))
    return table


def _width(columns: Sequence[Column], rows: Sequence[Row], kept: Sequence[int]) -> int:
    """In characters, with the gaps between."""
    widest = [max(len(columns[place].name), *(len(row[place]) for row in rows), 0) for place in kept]
    return sum(widest) + GAP * (len(kept) - 1) + 2 * EDGE


def _cut(name: str, room: int) -> str:
    return name if len(name) <= room else name[: room - 1] + "…"


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
