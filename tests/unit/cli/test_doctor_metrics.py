"""`adaserve doctor --prometheus` beside a real Prometheus that scrapes what autoscaling needs, or less."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from bench.local import free_port
from cli.main import app
from cli.metrics_examination import narrowed, trigger_series
from deploy.doctor_metrics import PLACE, VALUES, series_of, table
from tests.unit.cli.fake_gateway import FakeGateway, running

NOBODY = "http://127.0.0.1:9"
NEEDED = trigger_series()
ALL = sorted({selector for selectors in NEEDED.values() for selector in selectors})
START_S = 20.0
BINARY = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(
    BINARY is None, reason="no prometheus on the PATH (Debian: package prometheus)"
)


def exposed(*, less: str = "$.", refused: int = 0) -> str:
    """What all services together would answer at /metrics, but for the series that a pattern finds."""
    infos = [f'adaserve_info{{service="{service}"}}' for service in NEEDED]
    every = {re.sub(r'=~"([^|"]*)[^"]*"', r'="\1"', one) for one in [*ALL, *infos]}
    whole = sorted(
        every - {one.partition("{")[0] for one in every if "{" in one}
    )  # one metric has one set of labels
    lines = [f"{one} 1" for one in whole if not re.search(less, one)]
    return "\n".join([*lines, f'adaserve_bus_errors_total{{kind="NOPERM"}} {refused}', ""])


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Prometheus with several cells, each with another lack."""
    refused = itertools.count(1)
    lame = 'adaserve_step_time_seconds_sum{part="forward"} 1\n'  # a verifier's
    cells: list[tuple[Callable[[], str], dict[str, str]]] = [
        (exposed, {"cell": "whole", "namespace": "n"}),
        (lambda: exposed(less="open_streams|slo_requests"), {"cell": "poor", "namespace": "n"}),
        (lambda: exposed(less='"draft') + lame, {"cell": "lame", "namespace": "n"}),
        (exposed, {"cell": "half"}),
        (exposed, {"cell": "two", "namespace": "a"}),
        (lambda: exposed(less="open_streams", refused=next(refused)), {"cell": "two", "namespace": "b"}),
    ]
    with ExitStack() as stack:
        targets = [(stack.enter_context(running()), labels) for _, labels in cells]
        for (target, _), (page, _) in zip(targets, cells, strict=True):
            target.pages["/metrics"] = page
        yield stack.enter_context(prometheus(tmp_path_factory.mktemp("prometheus"), targets))


@contextmanager
def prometheus(folder: Path, targets: Sequence[tuple[FakeGateway, Mapping[str, str]]]) -> Iterator[str]:
    """Its URL; it scrapes each target five times a second."""
    assert BINARY is not None
    every = {"scrape_interval": "200ms", "scrape_timeout": "200ms"}
    scraped = [{"targets": [one.url.removeprefix("http://")], "labels": dict(labels)} for one, labels in targets]
    job = {"job_name": "x", "static_configs": scraped}
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
        _until(lambda: len(_asked(address, "up == 1") or ()) == len(targets))
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(15)


@contextmanager
def answering(status: int, page: str) -> Iterator[str]:
    """The URL of a server that answers every GET so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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


def look(url: str, cell: str, *more: str, subject: str = "autoscaling") -> list[Mapping[str, str]]:
    """What is found about autoscaling."""
    words = ["doctor", "--url", NOBODY, "--prometheus", url, "--cell", cell, "--json", *more]
    done = CliRunner().invoke(app, words, env={"REDIS_URL": "", "ADASERVE_REDIS_URL": ""})
    found: list[Mapping[str, str]] = json.loads(done.output)["findings"]
    return [one for one in found if one["subject"] == subject]


@pytest.mark.skipif(
    "engine: none" not in (VALUES.read_text() if VALUES.exists() else ""), reason="the chart has no triggers yet"
)
def test_the_list_that_is_installed_is_that_of_the_charts_triggers() -> None:
    assert PLACE.read_text() == table(), "run python -m deploy.doctor_metrics"


def test_series_are_read_off_the_queries_with_their_own_matchers() -> None:
    query = (
        'sum(rate(adaserve_a_total{x=~"adaserve|b",<<.LabelMatchers>>}[1m])) / adaserve:b:rate_5m > 2'
        " + adaserve_c{<<.LabelMatchers>>}"
    )
    triggers = {"one": {"query": query}, "cpu": {"type": "Utilization"}}
    values = {"services": {"gateway": {"autoscaling": {"triggers": triggers}}, "selector": {}}}
    assert series_of(values) == {
        "gateway": ["adaserve:b:rate_5m", 'adaserve_a_total{x=~"adaserve|b"}', "adaserve_c"]
    }


def test_the_labels_of_the_release_are_asked_for_besides() -> None:
    labels = {"cell": "a", "namespace": "n"}
    assert narrowed("adaserve_c", labels) == 'adaserve_c{cell="a",namespace="n"}'
    assert narrowed('adaserve_c{x=~"a|b"}', labels) == 'adaserve_c{x=~"a|b",cell="a",namespace="n"}'


@needs_prometheus
def test_where_all_is_there_the_namespace_is_learnt(scraped: str) -> None:
    (fine,) = look(scraped, "whole")
    told = f'Prometheus has the {len(ALL)} series of triggers with cell="whole", namespace="n"'
    assert (fine["severity"], fine["what"]) == ("fine", told)


@needs_prometheus
def test_what_the_triggers_need_is_found_missing_by_name(scraped: str) -> None:
    by_gateway, by_verifier = look(scraped, "poor")
    assert by_gateway["what"] == "Prometheus has no adaserve_open_streams, by which the gateway is scaled"
    assert by_gateway["severity"] == "problem"
    assert "ServiceMonitor" in by_gateway["remedy"]
    assert "no adaserve_slo_requests_total, adaserve_slo_requests_total{met=" in by_verifier["what"]
    assert by_verifier["severity"] == "warning"  # perhaps nobody has asked anything yet


@needs_prometheus
def test_a_service_that_is_not_scraped_is_found_though_others_have_metrics_of_those_names(scraped: str) -> None:
    (found,) = look(scraped, "lame")
    told = 'Prometheus scrapes no drafter with cell="lame", namespace="n": there is no adaserve_info'
    assert (found["severity"], found["what"]) == ("problem", told)
    assert "ServiceMonitor" in found["remedy"]


@needs_prometheus
def test_a_label_that_triggers_ask_for_is_found_missing(scraped: str) -> None:
    for cell, lost in (("half", "a namespace"), ("nobody", 'cell="nobody"')):
        (found,) = look(scraped, cell)
        assert found["severity"] == "warning"
        assert f"but not with {lost}" in found["what"]
        assert 'they have cell="half", cell="lame", namespace="n"' in found["what"]
        assert "metrics.matchLabels" in found["remedy"]
    assert [one["severity"] for one in look(scraped, "half", "--namespace", "")] == ["fine"]


@needs_prometheus
def test_of_two_namespaces_with_such_a_cell_one_has_to_be_named(scraped: str) -> None:
    (unknown,), (fine,) = look(scraped, "two"), look(scraped, "two", "--namespace", "a")
    assert (unknown["severity"], unknown["what"]) == (
        "unknown",
        "a cell of this name is in the namespaces a and b",
    )
    assert fine["severity"] == "fine"
    (lost,), (nowhere,) = look(scraped, "two", "--namespace", "b"), look(scraped, "two", "--namespace", "c")
    assert "adaserve_open_streams" in lost["what"]
    assert 'not with cell="two", namespace="c"; they have' in nowhere["what"]


@needs_prometheus
def test_refusals_are_told_of_the_cell_that_had_them(scraped: str) -> None:
    _until(lambda: bool(look(scraped, "two", "--namespace", "b", subject="rights")))
    (told,) = look(scraped, "two", subject="rights")
    assert told["what"].endswith("in ten minutes (NOPERM)")
    assert look(scraped, "whole", subject="rights") == []
    assert look(scraped, "two", "--namespace", "a", subject="rights") == []


def test_a_prometheus_that_is_not_there_is_a_problem() -> None:
    (told,) = look(NOBODY, "whole")
    assert told["severity"] == "problem"
    assert told["what"].startswith(f"Prometheus could not be asked: {NOBODY}: ")


@pytest.mark.parametrize(
    ("status", "page", "words", "remedy"),
    [
        (
            404,
            "",
            "answers 404 and no result of a query, so this is no Prometheus",
            "name the URL of a Prometheus",
        ),
        (200, "<html>", "answers 200 and no result of a query", "name the URL of a Prometheus"),
        (200, "[]", "answers 200 and no result of a query", "name the URL of a Prometheus"),
        (
            404,
            json.dumps({"error": {"code": "not_found"}}),
            "answers 404 and no result",
            "name the URL of a Prometheus",
        ),
        (200, json.dumps({"status": "ok"}), "answers 200 and no result", "name the URL of a Prometheus"),
        (401, "", "it asks for a login", "that asks for no login"),
        (422, json.dumps({"status": "error", "error": "too many"}), "too many", "name the URL of a Prometheus"),
    ],
)
def test_who_is_no_prometheus_is_told_as_that(status: int, page: str, words: str, remedy: str) -> None:
    with answering(status, page) as url:
        (told,) = look(url, "whole")
    assert told["severity"] == "problem"
    assert told["what"].startswith(f"Prometheus could not be asked: {url}: ")
    assert words in told["what"]
    assert remedy in told["remedy"]
