"""Headers that tell under which terms a request is served. Pure."""

from __future__ import annotations

import math

from services.gateway.form import Form
from services.gateway.slo import Slo

SLO_HEADER = "x-adaserve-slo"
CLAMPED_HEADER = "x-adaserve-clamped"
ARM_HEADER = "x-adaserve-arm"


def terms_headers(slo: Slo, form: Form, max_tokens: int) -> dict[str, str]:
    """Class and targets; and each wish that the tenant's policy has cut down, with what it got instead."""
    targets = {"tpot_ms": slo.tpot_ms, "ttft_ms": slo.ttft_ms}
    told = [f"class={slo.name}", *(f"{name}={ms:.6g}" for name, ms in targets.items() if math.isfinite(ms))]
    headers = {SLO_HEADER: ", ".join(told), **({ARM_HEADER: form.arm} if form.arm else {})}
    clamped = []
    if form.tpot_raised_from_ms:
        clamped.append(f"tpot_ms={form.tpot_raised_from_ms:.6g}->{slo.tpot_ms:.6g}")
    if form.max_tokens_cut_from:
        clamped.append(f"max_tokens={form.max_tokens_cut_from}->{max_tokens}")
    return {**headers, CLAMPED_HEADER: ", ".join(clamped)} if clamped else headers
