"""Alerts about drafts, evaluated by a real Prometheus that scrapes the services of a local stack."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bench.local import SERVICES, LocalStack

if TYPE_CHECKING:
    from bench.drift_watch import Watch

READY_S = 20.0
WORD = "draft"  # in the names of the alerts that are asked for


@dataclass(frozen=True, slots=True)
class Alerts:
    """Expressions by the alert's name, and who evaluates them; None for nobody."""

    url: str | None
    expressions: Mapping[str, str]

    @classmethod
    @contextmanager
    def of(cls, stack: LocalStack, rules: Path) -> Iterator[Alerts]:
        """While it scrapes once a second. Without `prometheus` on the PATH, or without rules, nobody does."""
        expressions = drift_expressions(rules)
        binary = shutil.which("prometheus")
        if binary is None or not expressions:
            yield cls(None, expressions)
            return
        with (
            tempfile.TemporaryDirectory(prefix="ada-prometheus-") as folder,
            _prometheus(binary, Path(folder), stack, rules) as url,
        ):
            yield cls(url, expressions)

    def firing_after(self, watch: Watch, seconds: float) -> dict[str, float | None] | None:
        """When each expression first held, within so many seconds from now."""
        if self.url is None:
            return None
        found: dict[str, float | None] = dict.fromkeys(self.expressions)

        def all_hold() -> bool:
            for name, expression in self.expressions.items():
                if found[name] is None and self._holds(expression):
                    found[name] = watch.now_s
            return None not in found.values()

        watch.until(all_hold, max(0.0, seconds))
        return found

    def _holds(self, expression: str) -> bool:
        query = urllib.parse.urlencode({"query": expression})
        return bool(_answer(f"{self.url}/api/v1/query?{query}")["data"]["result"])


def drift_expressions(rules: Path) -> dict[str, str]:
    """Of the alerts in the folder's files whose names speak of drafts."""
    found: dict[str, str] = {}
    for path in sorted(rules.glob("*.yaml")) if rules.is_dir() else ():
        for group in (yaml.safe_load(path.read_text()) or {}).get("groups", ()):
            for rule in group.get("rules", ()):
                if WORD in str(rule.get("alert", "")).lower():
                    found[rule["alert"]] = str(rule["expr"])
    return found


@contextmanager
def _prometheus(binary: str, folder: Path, stack: LocalStack, rules: Path) -> Iterator[str]:
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{stack.ports[name]}"]}]}
        for name in SERVICES
    ]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in sorted(rules.glob("*.yaml"))],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            _wait_ready(f"http://{address}", process, folder / "log")
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(10)


def _wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=2):  # noqa: S310 - our own http URL
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"prometheus did not become ready:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.1)


def _answer(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own http URL
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise RuntimeError(f"prometheus: {error.read().decode()[:500]}") from None
