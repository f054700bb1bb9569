"""A request as Redis holds it: what any gateway needs to tell its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.gateway.form import Form
from shared import codec
from shared.errors import UnreadableMessage
from shared.messages import Request
from shared.records import Origin
from shared.replies import text

FIELDS = ("status", "finish", "position", "tenant", "traceparent", "body", "form", "cost", "weight", "attachment")
TERMINAL = ("finished", "cancelled", "poisoned")


@dataclass(frozen=True, slots=True)
class Stored:
    """``position`` is where its output stands; ``traceparent`` is that of its first connection, ``attachment`` the
    number of the one that has it."""

    request: Request
    form: Form
    tenant: str
    status: str
    finish: str
    position: int
    traceparent: str | None
    cost: int
    weight: float
    attachment: int

    @property
    def has_ended(self) -> bool:
        return self.status in TERMINAL

    @property
    def has_failed(self) -> bool:
        """Whether it ended without an answer."""
        return self.has_ended and self.finish not in ("stop", "length")

    @property
    def end(self) -> int | None:
        """Where its output has ended; None while it goes on."""
        return self.position if self.has_ended else None

    @property
    def limit(self) -> int:
        """Where its output ends at the latest."""
        return len(self.request.prompt) + self.request.max_tokens


def unpack(values: Sequence[Any]) -> Stored | None:
    """From the values of FIELDS; None where there is no such request. Raises UnreadableMessage."""
    status, finish, position, tenant, traceparent, body, form, cost, weight, attachment = values
    if status is None:
        return None
    if body is None or form is None or tenant is None:
        raise UnreadableMessage("request: a field is missing")
    return Stored(
        request=codec.decode(Request, body),
        form=Form.unpack(form),
        tenant=text(tenant),
        status=text(status),
        finish=text(finish or b""),
        position=int(position),
        traceparent=text(traceparent or b"") or None,
        cost=int(cost or 1),
        weight=float(weight or 1.0),
        attachment=int(attachment or 1),
    )


def origin_of(
    request: Request,
    form: Form,
    gateway: str,
    traceparent: str | None,
    *,
    cost: int,
    weight: float,
    budget_ms: float | None,
    attachment: int,
    spent_ms: float = 0.0,
) -> Origin:
    """What has to be put back should Redis forget the request."""
    return Origin(
        body=codec.encode(request),
        tenant=request.tenant,
        tier=request.tier,
        seed=request.seed,
        gateway=gateway,
        traceparent=traceparent,
        form=form.pack(),
        cost=cost,
        weight=weight,
        budget_ms=budget_ms,
        attachment=attachment,
        slo_class=request.slo_class,
        tpot_ms=request.tpot_ms,
        ttft_ms=request.ttft_ms,
        spent_ms=spent_ms,
    )
