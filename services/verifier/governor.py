"""Which requests may be speculated on now: operators' orders, and where those leave it open, the watch. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.verifier.generation import Generation
from services.verifier.watch import Watch
from shared.modes import Mode, Orders

OPERATOR, NO_DRAFTER, RING = "operator", "no_drafter", "ring_deadline"


@dataclass(frozen=True, slots=True)
class Status:
    """How this verifier decodes now: ``speculative`` or ``full_verification``, and why if not freely."""

    mode: Mode
    reason: str = ""


class Governor:
    """Bars requests from speculation. What it bars decodes plainly, with the same tokens."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.orders = Orders()

    def rule(self, generations: Iterable[Generation]) -> None:
        """Bring each request's permission up to date."""
        orders, allows = self.orders, self.watch.allows
        for generation in generations:
            mode = orders.mode_of(generation.request.tenant, generation.request.slo_class)
            is_free = allows or mode is Mode.SPECULATIVE
            generation.is_barred = mode is Mode.FULL_VERIFICATION or not is_free

    def why_barred(self, generation: Generation) -> str:
        """Of a request that is barred: by an order, or what the watch objects to."""
        mode = self.orders.mode_of(generation.request.tenant, generation.request.slo_class)
        return OPERATOR if mode is Mode.FULL_VERIFICATION else self.watch.reason or "watch"

    def depth(self, wanted: int) -> int:
        """Levels to ask for: what the selector wants, less while the watch is cautious and nobody overrules it."""
        limit = self.watch.max_depth
        return wanted if limit is None or self.orders.cell is Mode.SPECULATIVE else min(wanted, limit)

    def status(self, *, has_drafter: bool, is_open: bool) -> Status:
        """Of the cell's requests; orders for tenants and classes are their own."""
        if self.orders.cell is Mode.FULL_VERIFICATION:
            return Status(Mode.FULL_VERIFICATION, OPERATOR)
        if not has_drafter:
            return Status(Mode.FULL_VERIFICATION, NO_DRAFTER)
        if is_open:
            return Status(Mode.FULL_VERIFICATION, RING)
        reason = self.watch.reason or ""
        if self.orders.cell is not Mode.SPECULATIVE and not self.watch.allows:
            return Status(Mode.FULL_VERIFICATION, reason)
        return Status(Mode.SPECULATIVE, reason)
