"""What `test_node` lets happen on a node: `python -m tests.rehearsal.inside FOLDER`, which prints JSON."""

from __future__ import annotations

import asyncio
import copy
import json
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.rehearsal.__main__ import RENDER
from deploy.rehearsal.campaign import Plan, exits, rehearse
from deploy.rehearsal.http_client import Connection
from deploy.rehearsal.images import REPOSITORY
from deploy.rehearsal.manifests import Render, component
from deploy.rehearsal.release import Release
from deploy.rehearsal.report import figures
from deploy.rehearsal.workloads import Workload

SAMPLE = Render.read(Path(__file__).with_name("sample.yaml"))
LATE_S, STARTED_S = 0.3, 40.0
NUM_TOKENS = 96
MODELS = ("drafter", "verifier")  # seconds of torch each
CHANGES = Plan(num_clients=3, hold_s=2.0, rolled_out=("gateway",), scaled=("verifier", "drafter"), sizes=(3, 1))


async def ask(address: str) -> Any:
    def answer() -> Any:
        with urllib.request.urlopen(f"http://{address}/", timeout=30) as response:
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


async def light(folder: Path) -> Mapping[str, Any]:
    """What the committed render of the smallest example starts without torch: Redis, then selector and gateway."""
    whole = Render.read(RENDER)
    light = [one for one in whole.documents if one["kind"] != "Deployment" or component(one) not in MODELS]
    release = Release(Render(light), folder, late_s=LATE_S)
    selector, gateway = release.workload("selector"), release.workload("gateway")
    selector.replicas = gateway.replicas = 0
    await release.install()
    await asyncio.sleep(2 * LATE_S)
    selector.replicas = gateway.replicas = 1
    settling = asyncio.create_task(gateway.settle())  # it never is, without a verifier
    statuses = {path: await _status(gateway, path) for path in ("/live", "/ready")}
    await selector.settle()
    settling.cancel()
    await release.uninstall()
    return {"statuses": statuses, "exits": exits(release.retired), "notes": release.notes}


async def _status(workload: Workload, path: str) -> int:
    """Of the first answer of its pod. Raises TimeoutError."""
    async with asyncio.timeout(STARTED_S):
        while True:
            for pod in workload.pods:
                connection = Connection(pod.identity.ip, pod.ports["http"], {})
                with suppress(OSError):
                    await connection.ask("GET", path)
                    return connection.status
            await asyncio.sleep(0.1)


async def changes(folder: Path) -> Mapping[str, Any]:
    """The same render with all it has, changed under load."""
    from deploy.rehearsal.expected import questions  # torch: seconds, and for this case alone

    asked = questions(REPOSITORY / "models" / "target", "float32", 3, NUM_TOKENS)
    return figures(await rehearse(Render.read(RENDER), folder, CHANGES, asked))


CASES = {
    "whole_life": whole_life,
    "stubborn": stubborn,
    "light": light,
    "changes": changes,
}


def main() -> None:
    case, folder = sys.argv[1:]
    print(json.dumps(asyncio.run(CASES[case](Path(folder)))))


if __name__ == "__main__":
    main()
