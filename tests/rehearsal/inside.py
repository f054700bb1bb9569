"""What `test_node` lets happen on a node: `python -m tests.rehearsal.inside FOLDER`, which prints JSON."""

from __future__ import annotations

import asyncio
import copy
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from deploy.rehearsal.__main__ import RENDER
from deploy.rehearsal.campaign import Plan, rehearse
from deploy.rehearsal.images import REPOSITORY
from deploy.rehearsal.manifests import Render
from deploy.rehearsal.release import Release
from deploy.rehearsal.report import figures

SAMPLE = Render.read(Path(__file__).with_name("sample.yaml"))
LATE_S = 0.3
START = Plan(num_clients=1, hold_s=1.0, late_s=LATE_S, rolled_out=(), upgrades=False, scaled=())
CHANGES = Plan(num_clients=3, hold_s=2.0, rolled_out=("gateway",), scaled=("verifier",), sizes=(2, 1))


async def ask(address: str) -> Any:
    def answer() -> Any:
        with urllib.request.urlopen(f"http://{address}/", timeout=5) as response:
            return json.load(response)

    return await asyncio.to_thread(answer)


async def whole_life(folder: Path) -> Mapping[str, Any]:
    """Install, ask through the Service during a rollout, uninstall."""
    release = Release(SAMPLE, folder, late_s=LATE_S)
    await release.install()
    await asyncio.sleep(LATE_S + 0.1)
    service, workload = release.services[0], release.workloads[0]
    told = await ask(f"{service.ip}:{service.port}")
    workload.restart()
    rollout = asyncio.create_task(workload.settle())
    asked = []
    while not rollout.done():
        asked.append((await ask(f"{service.ip}:{service.port}"))["environment"]["NAME"])
    await release.uninstall()
    exits = [pod.exits["sample"] for pod in workload.retired]
    return {"told": told, "asked": asked, "exits": exits, "notes": release.notes}


async def stubborn(folder: Path) -> Mapping[str, Any]:
    """One pod that does not hear SIGTERM, and a preStop that fails."""
    document = copy.deepcopy(dict(SAMPLE.get("Deployment", "sample")))
    document["spec"]["replicas"] = 1
    (container,) = document["spec"]["template"]["spec"]["containers"]
    container["env"].append({"name": "STUBBORN", "value": "1"})
    container["lifecycle"] = {"preStop": {"exec": {"command": ["false"]}}}
    others = [one for one in SAMPLE.documents if one["kind"] != "Deployment"]
    release = Release(Render([*others, document]), folder, late_s=LATE_S)
    await release.install()
    began = time.monotonic()
    await release.uninstall()
    (pod,) = release.workloads[0].retired
    return {"took_s": time.monotonic() - began, "exits": pod.exits, "notes": release.notes}


async def chart(plan: Plan, num_tokens: int, folder: Path) -> Mapping[str, Any]:
    """The committed render of the smallest example, under load."""
    from deploy.rehearsal.expected import questions  # torch: seconds, and for these cases alone

    asked = questions(REPOSITORY / "models" / "target", "float32", 3, num_tokens)
    return figures(await rehearse(Render.read(RENDER), folder, plan, asked))


CASES: Mapping[str, Callable[[Path], Coroutine[Any, Any, Mapping[str, Any]]]] = {
    "whole_life": whole_life,
    "stubborn": stubborn,
    "start": partial(chart, START, 24),
    "changes": partial(chart, CHANGES, 96),
}


def main() -> None:
    case, folder = sys.argv[1:]
    print(json.dumps(asyncio.run(CASES[case](Path(folder)))))


if __name__ == "__main__":
    main()
