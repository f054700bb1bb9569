"""Rules and dashboards against a real Prometheus that scrapes a real stack.

    python -m bench.observed [--trace paper:rps=2,seconds=40,lengths=0.1] [--keep]

A stack is started, with a policy whose class has an objective, and a Prometheus beside it that scrapes the four
services once a second and evaluates `deploy/k8s/files/rules` as often. A trace is replayed, and requests of the
class are sent besides. Then:

1. `promtool check metrics` has nothing against what any of the services exposes;
2. every recording rule has recorded something, and every expression of every dashboard returns a number;
3. every alert's expression can be evaluated, and of those that fire on a healthy cell the names are printed;
4. the attainment that was recorded is that which the replay's client counted, within half a point.

Grafana's variables are put in as Grafana does. Prometheus and promtool are looked for on the PATH (Debian: package
prometheus). --keep leaves everything running until Enter, with the address of Prometheus.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from bench.local import SERVICES, LocalStack, free_port, local_stack
from bench.prompts import source_prompts
from bench.replay.plan import Wishes
from bench.replay.probe import probe
from bench.replay.replay import Limits, Run, connected, replay
from bench.workloads import load_trace
from shared.errors import ConfigurationError
from shared.streams import connect

FILES = Path(__file__).resolve().parent.parent / "deploy/k8s/files"
RULES = FILES / "rules" / "adaserve.yaml"
SCRAPE_S = 1
START_S = 30.0
SETTLE_S = 5.0  # scrapes and evaluations after the last request
WITHIN = 0.005
VARIABLES = {"$__rate_interval": "1m", "$cell": ".*", "$slo_class": ".*"}
POLICY = """
classes:
  chat: {tpot_ms: 1000, ttft_ms: 20000, tier: 1, objective: 0.95}
  replayed: {tier: 2}
tenants:
  default: {classes: [chat, replayed], default: replayed}
"""


class Prometheus:
    """A running one."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expr: str) -> list[float]:
        """The values of an expression now. Raises ValueError for one that it does not understand."""
        for name, value in VARIABLES.items():
            expr = expr.replace(name, value)
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expr}, trust_env=False)
        if answer.is_error:
            raise ValueError(f"{expr}: {answer.text[:300]}")
        return [float(series["value"][1]) for series in answer.json()["data"]["result"]]

    def has_data(self, expr: str) -> bool:
        """Whether it is a number somewhere."""
        return any(math.isfinite(value) for value in self.query(expr))

    def wait_for(self, expr: str) -> None:
        """Until it has data. Raises RuntimeError where it has none for long."""
        deadline = time.monotonic() + START_S
        while not self.has_data(expr):
            if time.monotonic() > deadline:
                raise RuntimeError(f"Prometheus has nothing for {expr}")
            time.sleep(0.1)

    def firing(self) -> list[str]:
        """Alerts that fire, or would if they lasted."""
        alerts = httpx.get(f"{self.url}/api/v1/alerts", trust_env=False).json()["data"]["alerts"]
        return sorted(f"{alert['labels']['alertname']} ({alert['state']})" for alert in alerts)


@contextmanager
def prometheus(stack: LocalStack, folder: Path) -> Iterator[Prometheus]:
    """One that scrapes the stack's services, with our rules, evaluated at every scrape."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules = {"groups": [{**group, "interval": f"{SCRAPE_S}s"} for group in groups]}
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    targets = [f"127.0.0.1:{stack.ports[name]}" for name in SERVICES]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "adaserve", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    words = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "prometheus.log").open("wb") as log:
        command = [_found("prometheus"), *words, f"--web.listen-address={address}"]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_ready(f"http://{address}/-/ready", process)
            yield Prometheus(f"http://{address}")
        finally:
            process.terminate()
            process.wait(15)


def _wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if httpx.get(url, timeout=2, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("Prometheus did not start")
        time.sleep(0.1)


def _found(tool: str) -> str:
    """Where it is. Raises ConfigurationError."""
    path = shutil.which(tool)
    if path is None:
        raise ConfigurationError(f"there is no {tool} on the PATH (Debian: package prometheus)")
    return path


# -- load ------------------------------------------------------------------------------------------------------
async def replayed(stack: LocalStack, trace: str) -> Run:
    """The trace, as `adaserve replay` would replay it."""
    async with connected(stack.url) as client:
        server = await probe(client, {}, None)
        return await replay(client, load_trace(trace, 0), server, Wishes(), prompts={}, limits=Limits())


@contextmanager
def chatting(stack: LocalStack) -> Iterator[None]:
    """One request of the class after the other, meanwhile."""
    is_over = threading.Event()

    def chat() -> None:
        for seed, prompt in enumerate(source_prompts(10_000, seed=1, max_chars=200)):
            if is_over.wait(0.2):
                return
            slo = {"slo": {"class": "chat"}}
            stack.complete({"prompt": prompt, "max_tokens": 24, "seed": seed, "adaserve": slo})

    thread = threading.Thread(target=chat)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


# -- what is looked at -----------------------------------------------------------------------------------------
def lint(stack: LocalStack) -> list[str]:
    """What promtool has against the services' metrics."""
    found = []
    for name in SERVICES:
        text = stack.metrics(name).encode()
        done = subprocess.run(
            [_found("promtool"), "check", "metrics"], input=text, capture_output=True, check=False
        )
        found += [f"{name}: {line}" for line in (done.stdout + done.stderr).decode().splitlines()]
    return found


def rules_of(kind: str) -> list[dict[str, Any]]:
    """All of a ``kind``, record or alert."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def panels() -> Iterator[tuple[str, str]]:
    """Where it is, and the expression, of every query of every dashboard."""
    for path in sorted((FILES / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.stem} / {panel['title']} / {target['refId']}", target["expr"]


def without_data(server: Prometheus) -> tuple[int, list[str]]:
    """How many rules and queries were tried, and those that return nothing."""
    records = {rule["record"] for rule in rules_of("record")}
    tried = [(name, name) for name in sorted(records)] + list(panels())
    return len(tried), [f"{where}: {expr}" for where, expr in tried if not server.has_data(expr)]


def attainment_error(server: Prometheus, run: Run) -> tuple[float, float]:
    """Of the replayed requests: the share that attained, by Prometheus and by the client."""
    recorded = server.query('adaserve:slo_attained:ratio_1h{slo_class="replayed"}')
    return (recorded or [math.nan])[0], run.tally.attained / run.tally.judged


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was found; 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", default="paper:rps=2,seconds=40,lengths=0.1")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ada-prometheus-") as folder:
        try:
            return observe(Path(folder), options.trace, keep=options.keep)
        except ConfigurationError as error:
            print(error, file=sys.stderr)
            return 2


def observe(folder: Path, trace: str, *, keep: bool) -> int:
    """Run it in ``folder``."""
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
    settings = {"gateway": {"POLICY_FILE": str(folder / "policy.yaml")}, "selector": {"POLICY": "paper"}}
    with local_stack(settings) as stack, prometheus(stack, folder) as server:
        connect(stack.redis_url).config_set("maxmemory", 1 << 30)
        server.wait_for("adaserve_slo_requests_total")  # what was counted before the first look is no increase
        with chatting(stack):
            run = asyncio.run(replayed(stack, trace))
        time.sleep(SETTLE_S)
        complaints, alerts = lint(stack), rules_of("alert")
        num_tried, missing = without_data(server)
        for alert in alerts:
            server.query(alert["expr"])
        recorded, counted = attainment_error(server, run)
        print(f"promtool check metrics: {len(complaints)} complaints about {len(SERVICES)} services")
        print(f"rules and dashboards: {num_tried - len(missing)} of {num_tried} expressions return data")
        print(f"alerts: {len(alerts)} evaluated; pending or firing: {', '.join(server.firing()) or 'none'}")
        print(f"attainment of {run.tally.judged} requests: {recorded:.4f} recorded, {counted:.4f} at the client")
        for line in [*complaints, *missing]:
            print(f"  {line}")
        if keep:
            input(f"Prometheus: {server.url}, gateway: {stack.url}; Enter ends everything ")
    return 1 if complaints or missing or not abs(recorded - counted) <= WITHIN else 0


if __name__ == "__main__":
    sys.exit(main())
