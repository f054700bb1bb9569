"""A real stack, and a real browser that looks at its console. Asks for nothing that is not on this machine.

`make console` runs it; `ARGS="--shots DIR"` keeps pictures of every view, `AXE=axe.min.js` asks axe-core, too.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.local import LocalStack, local_stack

playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser]'")

KEY = "an-admin-key-for-the-console"
POLICY = """
classes:
  chat: {tpot_ms: 400, objective: 0.9}
  batch: {}
tenants:
  default: {classes: [chat, batch], default: chat}
  acme: {classes: [batch], default: batch}
"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DESKTOP = {"width": 1360, "height": 900}
PHONE = {"width": 360, "height": 780}
WAIT_MS = 20_000
REFUSED_LOAD = "Failed to load resource"  # how the browser tells an answer of 400 and more


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shots", default=None, help="folder for pictures of every view")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """With an admin key and a policy; the paper's selection speculates however busy the machine is."""
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(POLICY)
    gateway = {"ADMIN_KEY": KEY, "POLICY_FILE": str(policy), "VERIFIER_PATIENCE_S": "150"}
    with local_stack({"selector": {"POLICY": "paper"}, "gateway": gateway}) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    binary = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if binary is None:
        pytest.skip("no Chromium on the PATH")
    playwright.expect.set_options(timeout=WAIT_MS)
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=binary, args=FLAGS)
        yield launched
        launched.close()


@dataclass
class Tab:
    """One page, and what went wrong in it. ``expects_refusals``: an answer of 400 and more, or none, is fine."""

    page: Any
    url: str
    expects_refusals: bool = False
    problems: list[str] = field(default_factory=list)

    def open(self, view: str = "overview") -> None:
        self.page.goto(f"{self.url}/#{view}")

    def listen(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        is_refusal = message.text.startswith(REFUSED_LOAD)
        if message.type in ("error", "warning") and not (is_refusal and self.expects_refusals):
            self.problems.append(f"console: {message.text}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, f"blob:{self.url}")):
            self.problems.append(f"a request to {request.url}")


Opener = Callable[..., Tab]


@pytest.fixture
def opened(stack: LocalStack, browser: Any) -> Iterator[Opener]:
    """Opens tabs; at the end none may have an error on its console or a request that left the origin."""
    tabs: list[Tab] = []

    def open_tab(*, key: str | None = KEY, viewport: dict[str, int] = DESKTOP, **options: Any) -> Tab:
        context = browser.new_context(viewport=viewport, **options)
        context.set_default_timeout(WAIT_MS)
        if key is not None:
            context.add_init_script(f"sessionStorage.setItem('adaserve.admin-key', {key!r})")
        tab = Tab(context.new_page(), stack.url)
        tab.listen()
        tabs.append(tab)
        return tab

    yield open_tab
    problems = [problem for tab in tabs for problem in tab.problems]
    for tab in tabs:
        tab.page.context.close()
    assert not problems


Keep = Callable[..., None]


@pytest.fixture
def shot(request: pytest.FixtureRequest) -> Keep:
    """Keeps a picture, where a folder for them was named; ``after_s``: when there is more to see."""
    folder = request.config.getoption("--shots", default=None)

    def keep(tab: Tab, name: str, *, after_s: float = 0.0) -> None:
        if folder is not None:
            tab.page.wait_for_timeout(after_s * 1_000)
            tab.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)

    return keep


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, from wherever it was installed."""
    path = os.environ.get("AXE")
    if path is None:
        pytest.skip("AXE names no axe.min.js")
    return Path(path).read_text()


@contextmanager
def traffic(stack: LocalStack, streams: int = 3) -> Iterator[None]:
    """Requests of both classes, one after the other in each of some threads."""
    is_over = threading.Event()

    def ask(number: int) -> None:
        while not is_over.is_set():
            slo = {"class": "batch" if number % 3 == 2 else "chat"}
            prompt = f"def f{number}(x):\n"
            stack.complete({"prompt": prompt, "max_tokens": 160, "temperature": 0, "adaserve": {"slo": slo}})

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
