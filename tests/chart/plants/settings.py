"""Services told what they do not know, do not take or must not be told."""

from __future__ import annotations

from tests.chart.plants.spoiling import Plants, container, in_container, setting
from tests.chart.policies import settings as policies
from tests.chart.renders import Render


def told(render: Render, name: str, value: str, component: str = "verifier") -> None:
    """One that it is told already, another value."""
    for entry in container(render, component)["env"]:
        if entry["name"] == name:
            entry["value"] = value
            return
    raise LookupError(f"{render.name}: {component} is not told {name}")


PLANTS: Plants = [
    (policies.tells_what_is_known, setting("ADASERVE_KV_MEMORY", "256")),
    (policies.tells_what_is_allowed, lambda r: told(r, "ADASERVE_KV_MEMORY_MB", "256Mi")),
    (policies.tells_what_is_allowed, lambda r: told(r, "ADASERVE_DTYPE", "float16")),
    (policies.tells_each_thing_once, setting("ADASERVE_CELL", "default")),
    (policies.listens_where_it_is_asked, lambda r: told(r, "ADASERVE_HTTP_HOST", "127.0.0.1")),
    (policies.listens_where_it_is_asked, lambda r: told(r, "ADASERVE_HTTP_PORT", "8001")),
    (policies.asks_for_keys, setting("ADASERVE_UNSAFE_OPEN_BIND", "true", "gateway")),
    (policies.is_one_cell, lambda r: told(r, "ADASERVE_CELL", "another")),
    (policies.runs_its_own_service, in_container(command=["python", "-m", "services.drafter"])),
]
