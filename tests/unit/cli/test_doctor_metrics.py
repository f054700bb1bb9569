"""`adaserve doctor --prometheus` beside a real Prometheus that scrapes what autoscaling needs, or less."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from bench.local import free_port
from cli.main import app
from cli.metrics_examination import trigger_metrics
from deploy.doctor_metrics import PLACE, VALUES, metrics_of, table
from tests.unit.cli.fake_gateway import FakeGateway, running

CELL = "eu-1"
NOBODY = "http://127.0.0.1:9"
NEEDED = trigger_metrics()
ALL = sorted({name for names in NEEDED.values() for name in names})
START_S = 20.0
BINARY = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(
    BINARY is None, reason="no prometheus on the PATH (Debian: package prometheus)"
)


def exposed(*, less: tuple[str, ...] = (), refused: int = 0) -> str:
    """What a service would answer at /metrics."""
    lines = [f"{name} 1" for name in ALL if name not in less]
    return "\n".join([*lines, f'adaserve_bus_errors_total{{kind="NOPERM"}} {refused}', ""])


@contextmanager
def prometheus(folder: Path, target: FakeGateway, **labels: str) -> Iterator[str]:
    """Its URL; it scrapes the target five times a second."""
    assert BINARY is not None
    job = {
        "job_name": "x",
        "static_configs": [{"targets": [target.url.removeprefix("http://")], "labels": labels}],
    }
    every = {"scrape_interval": "200ms", "scrape_timeout": "200ms"}
    (folder / "p.yml").write_text(yaml.safe_dump({"global": every, "scrape_configs": [job]}))
    address = f"127.0.0.1:{free_port()}"
    words = [
        f"--config.file={folder}/p.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([BINARY, *words], stdout=log, stderr=subprocess.STDOUT)
    try:
        _until(lambda: bool(_asked(address, "up == 1")))
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(15)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _asked(address: str, query: str) -> Any:
    try:
        url = f"http://{address}/api/v1/query"
        return httpx.get(url, params={"query": query}, trust_env=False).json()["data"]["result"]
    except (httpx.HTTPError, ValueError, KeyError):
        return None


def look(url: str, cell: str = CELL) -> list[Mapping[str, str]]:
    """What is found about autoscaling."""
    words = ["doctor", "--url", NOBODY, "--prometheus", url, "--cell", cell, "--json"]
    done = CliRunner().invoke(app, words, env={"REDIS_URL": "", "ADASERVE_REDIS_URL": ""})
    found: list[Mapping[str, str]] = json.loads(done.output)["findings"]
    return [one for one in found if one["subject"] in ("autoscaling", "rights")]


@pytest.mark.skipif(
    "engine: none" not in (VALUES.read_text() if VALUES.exists() else ""), reason="the chart has no triggers yet"
)
def test_the_list_that_is_installed_is_that_of_the_charts_triggers() -> None:
    assert PLACE.read_text() == table(), "run python -m deploy.doctor_metrics"


def test_names_are_read_off_the_queries() -> None:
    query = 'sum(rate(adaserve_a_total{x="adaserve"}[1m])) / adaserve:b:rate_5m > 2'
    triggers = {"one": {"query": query}, "cpu": {"type": "Utilization"}}
    values = {"services": {"gateway": {"autoscaling": {"triggers": triggers}}, "selector": {}}}
    assert metrics_of(values) == {"gateway": ["adaserve:b:rate_5m", "adaserve_a_total"]}


@needs_prometheus
def test_what_the_triggers_need_is_found_missing_by_name(tmp_path: Path) -> None:
    with running() as target:
        target.pages["/metrics"] = exposed
        with prometheus(tmp_path, target, cell=CELL) as url:
            (fine,) = look(url)
            assert (fine["severity"], fine["what"]) == (
                "fine",
                f"Prometheus has the {len(ALL)} metrics of triggers",
            )
            target.pages["/metrics"] = lambda: exposed(
                less=("adaserve_open_streams", "adaserve_slo_requests_total")
            )
            _until(lambda: len(look(url)) == 2)
            by_gateway, by_verifier = look(url)
    assert by_gateway["what"] == "Prometheus has no adaserve_open_streams, by which the gateway is scaled"
    assert by_gateway["severity"] == "problem"
    assert "ServiceMonitor" in by_gateway["remedy"]
    assert by_verifier["what"] == "Prometheus has no adaserve_slo_requests_total, by which the verifier is scaled"
    assert by_verifier["severity"] == "warning"  # perhaps nobody has asked anything yet


@needs_prometheus
def test_a_label_that_triggers_ask_for_is_found_missing_and_refusals_are_told(tmp_path: Path) -> None:
    refused = iter(range(1, 100_000))
    with running() as target:
        target.pages["/metrics"] = lambda: exposed(refused=next(refused))
        with prometheus(tmp_path, target) as url:
            _until(lambda: any(one["subject"] == "rights" for one in look(url)))
            found = look(url)
    assert {one["severity"] for one in found if one["subject"] == "autoscaling"} == {"warning"}
    assert (
        'but not with the label cell="eu-1"'
        in next(one for one in found if one["subject"] == "autoscaling")["what"]
    )
    (told,) = [one["what"] for one in found if one["subject"] == "rights"]
    assert told.endswith("in ten minutes (NOPERM)")


def test_a_prometheus_that_is_not_there_is_a_problem() -> None:
    (told,) = look(NOBODY)
    assert told["severity"] == "problem"
    assert told["what"].startswith(f"Prometheus could not be asked: {NOBODY}: ")
