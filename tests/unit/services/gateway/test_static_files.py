"""The console's files: served to anybody as what they are, and nothing else of the disk."""

from __future__ import annotations

import asyncio
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import httpx
import pytest

from services.gateway.app import VERSION
from services.gateway.description.document import document
from services.gateway.static_files import CONSOLE, HEADERS, TYPES, console_files
from tests.conformance.described import Described
from tests.unit.services.gateway.conftest import Served

DESCRIBED = Described(document(VERSION))
VENDORED = {"uplot.min.js", "uplot.min.css", "inter.woff2"}
OWN = sorted(path for path in CONSOLE.iterdir() if path.name not in VENDORED and path.suffix in {".js", ".css"})
PAGE = (CONSOLE / "index.html").read_text()
MAX_LINES = 200


async def test_every_file_is_served_as_what_it_is(front: httpx.AsyncClient) -> None:
    for name, file in console_files().items():
        answer = await front.get(f"/console/{name}")
        assert answer.status_code == 200
        assert answer.content == file.body == (CONSOLE / name).read_bytes()
        assert answer.headers["content-type"] == TYPES[Path(name).suffix]
        assert answer.headers.items() >= HEADERS.items()
    page = await front.get("/")
    assert (page.status_code, page.text) == (200, PAGE)
    assert page.headers.items() >= HEADERS.items()
    assert page.headers["content-type"] == "text/html; charset=utf-8"


async def test_the_page_may_ask_nobody_else_and_make_no_markup(front: httpx.AsyncClient) -> None:
    rules = (await front.get("/")).headers["content-security-policy"].split("; ")
    assert {"default-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} <= set(rules)
    assert "unsafe" not in "".join(rules)


async def test_what_is_known_is_not_sent_again(front: httpx.AsyncClient) -> None:
    for path in ("/", "/console/app.js"):
        etag = (await front.get(path)).headers["etag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            answer = await front.get(path, headers={"if-none-match": known})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert (await front.get(path, headers={"if-none-match": '"other"'})).status_code == 200
    assert len({file.etag for file in console_files().values()}) == len(console_files())


async def test_head_tells_what_get_would(served: Served) -> None:
    for path, described in (("/", "/"), ("/console/app.js", "/console/{file}")):
        whole, head = await served.http.get(path), await served.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-length", "content-type", "etag", *HEADERS):
            assert head.headers[name] == whole.headers[name]
        DESCRIBED.check_answer("head", described, head)
    assert (await served.http.head("/console/none.js")).status_code == 404


ELSEWHERE = (
    "/console",
    "/console/",
    "/console/nothing.js",
    "/console/app.js/",
    "/console/../app.py",
    "/console/%2e%2e%2fapp.py",
    "/console/..%5capp.py",
    "/console//etc/passwd",
    "/console/../admin/mode",
    "/console/%00",
)


async def test_no_path_leads_out_of_the_console(served: Served) -> None:
    """Sent as they are: a client library would tidy them up."""
    address = served.http.base_url
    for path in ELSEWHERE:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 404 "), path
        assert b'"code":"not_found"' in answer, path


async def test_nobody_is_asked_for_a_key_and_only_files_are_open(served: Served) -> None:
    await served.http.post("/admin/keys", json={"tenant": "acme", "scopes": ["inference", "admin"]})
    for path, status in (("/", 200), ("/console/app.js", 200), ("/console/none.js", 404), ("/v1/models", 401)):
        assert (await served.http.get(path)).status_code == status
    assert (await served.http.post("/console/app.js", json={})).status_code == 405
    assert (await served.http.get("/consolexx")).status_code == 401


def references() -> set[str]:
    """Files that the page, the modules and the style sheets name."""
    found = set(re.findall(r'(?:href|src)="console/([^"]+)"', PAGE))
    for path in OWN:
        text = path.read_text()
        found |= set(re.findall(r'from "\./([^"]+)"', text)) | set(re.findall(r'url\("([^"]+)"\)', text))
    return found


def test_every_file_that_is_named_is_there_and_every_file_is_named() -> None:
    licences = {name for name in console_files() if name.endswith(".LICENSE.txt")}
    assert references() == set(console_files()) - licences - {"index.html"}
    assert {name.partition(".")[0] for name in licences} == {"uplot", "inter"}


def test_every_file_is_packaged() -> None:
    project = tomllib.loads((CONSOLE.parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["services.gateway"]
    for path in CONSOLE.iterdir():
        assert any(fnmatch(f"console/{path.name}", pattern) for pattern in patterns)
        assert path.suffix in TYPES


def test_no_script_or_style_inside_the_page_and_no_address_elsewhere() -> None:
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", PAGE)
    for path in [*OWN, CONSOLE / "index.html"]:
        addresses = re.findall(r"https?://[^\s\"')]+", path.read_text())
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, path.name


@pytest.mark.parametrize("path", OWN, ids=[path.name for path in OWN])
def test_modules_are_small_and_make_no_markup_of_text(path: Path) -> None:
    text = path.read_text()
    made_of_text = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
    assert not re.search(made_of_text, text)
    if path.suffix == ".js":
        assert len(text.splitlines()) < MAX_LINES
        for exported in re.finditer(r"\nexport (?!const)", text):
            assert text[: exported.start()].endswith("*/"), text[exported.start() :][:60]
