"""What a machine costs and what each tenant pays, for `adaserve simulate --prices`. Pure but for `load_prices`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from shared.policy import Policy
from shared.settings import Name
from shared.yaml_file import Section, YamlFile

Price = Annotated[float, Field(ge=0, le=1e9)]


class TenantPrices(Section):
    """Of one tenant: its share of the requests, relative to the others', and what a million output tokens earn.

    Those of a request that missed its target earn `per_million_missed`. `introduction` is what it costs once to
    move the tenant to another system; without it nothing has to be paid back.
    """

    share: float = Field(default=1.0, gt=0, le=1e6)
    per_million_tokens: Price
    per_million_missed: Price = 0.0
    introduction: Price | None = None


class Prices(Section):
    """All amounts are in `currency` (ISO 4217). `gpu_hour` is the price of one of the machine's `gpus`.

    `drafter_gpus` are those beside them that only drafting needs; a baseline does without.
    """

    currency: str = Field(pattern=r"^[A-Z]{3}$")
    gpu_hour: Price
    gpus: int = Field(ge=1, le=100_000)
    drafter_gpus: int = Field(default=0, ge=0, le=100_000)
    tenants: Mapping[Name, TenantPrices] = Field(min_length=1)

    @property
    def cost_per_hour(self) -> float:
        """Of the whole machine, busy or not."""
        return self.gpu_hour * (self.gpus + self.drafter_gpus)

    @property
    def without_drafter(self) -> Prices:
        """Of the same machine without what only drafting needs."""
        return self.model_copy(update={"drafter_gpus": 0})


def load_prices(path: Path, policy: Policy) -> Prices:
    """Prices for exactly the policy's tenants. Raises PolicyError naming file, line, field, value and limit."""
    file = YamlFile.read(path)
    prices = file.model(Prices)
    for tenant in prices.tenants:
        if tenant not in policy.tenants:
            words = f"not a tenant of the policy, which has {', '.join(policy.tenants)}"
            raise file.error(("tenants", tenant), words)
    for tenant in policy.tenants:
        if tenant not in prices.tenants:
            raise file.error(("tenants", tenant), "a tenant of the policy, and without prices")
    return prices
