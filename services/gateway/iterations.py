"""The iterations of an inspected request, from the halves that selector and verifier have told. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from shared.inspection import InspectedStep, InspectedTree
from shared.messages import SLO_PHASE
from shared.tree import ROOT

Json = dict[str, Any]
Spell = Callable[[int], str]

_UNTOLD = {"need": None, "budget": 0, "rows": 0, "depth": 0, "width": 0}
_UNTOLD_MS = {"draft_ms": 0.0, "select_ms": 0.0, "predicted_ms": 0.0}


def joined(
    entries: Iterable[tuple[str, InspectedTree | InspectedStep]], spell: Spell
) -> tuple[list[Json], str | None]:
    """All of them, oldest first, and the id of the last entry that was used, None for none.

    ``entries`` as they stand in the stream, where a tree comes before its step. A step that begins where an
    earlier one did, or before it, was taken again by another verifier: what those drew was not committed.
    """
    trees: dict[tuple[int, int], InspectedTree] = {}
    steps: list[InspectedStep] = []
    cursor = None
    for entry_id, told in entries:
        if isinstance(told, InspectedTree):
            trees[told.position, told.step] = told
            continue
        cursor = entry_id
        while steps and steps[-1].position >= told.position:
            steps.pop()
        steps.append(told)
    return [_iteration(step, trees.get((step.position, step.step)), spell) for step in steps], cursor


def _iteration(step: InspectedStep, tree: InspectedTree | None, spell: Spell) -> Json:
    return {
        "position": step.position,
        "mode": step.mode,
        "step": step.step,
        "tpot_target_ms": _rounded(step.tpot_target_ms),
        "tpot_ms": _rounded(step.tpot_ms),
        **(_UNTOLD | _UNTOLD_MS if tree is None else _told(tree)),
        "verify_ms": _rounded(step.verify_ms),
        "nodes": _path(step, spell) if tree is None else _nodes(step, tree, spell),
        "own": _own(step, spell),
    }


def _told(tree: InspectedTree) -> Json:
    return {
        "need": _rounded(tree.need),
        "budget": tree.budget,
        "rows": tree.rows,
        "depth": tree.depth,
        "width": tree.width,
        "draft_ms": _rounded(tree.draft_ms),
        "select_ms": _rounded(tree.select_ms),
        "predicted_ms": _rounded(tree.predicted_ms),
    }


def _nodes(step: InspectedStep, tree: InspectedTree, spell: Spell) -> list[Json]:
    """Every candidate."""
    chosen = tree.chosen.tolist()
    phases = dict(zip(chosen, tree.phase.tolist(), strict=True))
    accepted = {chosen[place] for place in step.path.tolist() if place < len(chosen)}
    columns = zip(tree.tokens.tolist(), tree.parents.tolist(), tree.probability.tolist(), strict=True)
    return [
        _node(token, parent, probability, _phase(phases.get(node)), node in accepted, spell)
        for node, (token, parent, probability) in enumerate(columns)
    ]


def _path(step: InspectedStep, spell: Spell) -> list[Json]:
    """The accepted nodes, which the verifier tells itself: all there is where the selector's half is missing."""
    pairs = zip(step.tokens.tolist(), step.logprobs.tolist(), strict=False)
    return [
        _node(token, place - 1 if place else ROOT, math.exp(min(logprob, 0.0)), None, True, spell)
        for place, (token, logprob) in enumerate(pairs)
    ]


def _node(token: int, parent: int, probability: float, phase: str | None, accepted: bool, spell: Spell) -> Json:
    return {
        "parent": parent,
        "token": token,
        "text": spell(token),
        "p": round(min(max(probability, 0.0), 1.0), 6),
        "phase": phase,
        "accepted": accepted,
    }


def _phase(phase: int | None) -> str | None:
    if phase is None:
        return None
    return "slo" if phase == SLO_PHASE else "throughput"


def _own(step: InspectedStep, spell: Spell) -> Json | None:
    if len(step.tokens) == len(step.path):
        return None
    token = int(step.tokens[-1])
    return {"token": token, "text": spell(token)}


def _rounded(value: float | None) -> float | None:
    return round(value, 3) if value is not None and math.isfinite(value) else None
