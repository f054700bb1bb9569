"""Headers that tell under which terms a request is served. Pure."""

from __future__ import annotations

import math

from services.gateway.form import Form
from services.gateway.slo import Slo
from shared.messages import Request

SLO_HEADER = "x-adaserve-slo"
CLAMPED_HEADER = "x-adaserve-clamped"
ACCEPTANCE_HEADER = "x-adaserve-acceptance"
ARM_HEADER = "x-adaserve-arm"


def terms_headers(slo: Slo, form: Form, request: Request) -> dict[str, str]:
    """Class and targets; that tokens need only be typical; each wish that the policy has cut down, and to what."""
    targets = {"tpot_ms": slo.tpot_ms, "ttft_ms": slo.ttft_ms}
    told = [f"class={slo.name}", *(f"{name}={ms:.6g}" for name, ms in targets.items() if math.isfinite(ms))]
    headers = {SLO_HEADER: ", ".join(told), **({ARM_HEADER: form.arm} if form.arm else {})}
    if request.typical:
        headers[ACCEPTANCE_HEADER] = "typical"
    clamped = []
    if form.tpot_raised_from_ms:
        clamped.append(f"tpot_ms={form.tpot_raised_from_ms:.6g}->{slo.tpot_ms:.6g}")
    if form.max_tokens_cut_from:
        clamped.append(f"max_tokens={form.max_tokens_cut_from}->{request.max_tokens}")
    return {**headers, CLAMPED_HEADER: ", ".join(clamped)} if clamped else headers
