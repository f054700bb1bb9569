"""The console while the draft goes wrong under load, and when it is right again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.local import LocalStack
from tests.console.conftest import Keep, Opener, playwright, traffic

expect = playwright.expect

COLLAPSE = "hardly any draft is accepted"
STOPS_MS = 60_000
BACK_MS = 120_000  # the first trial comes after 20 s, and each one that fails doubles the pause


@pytest.fixture
def healed(stack: LocalStack, tmp_path: Path) -> Iterator[Path]:
    """A drafter whose tokens are random until this file is there."""
    file, environment = tmp_path / "healed", stack.environment
    stack.environment = {**environment, "BENCH_HEALED": str(file)}
    replace_drafter(stack, "bench.random_drafter")
    yield file
    stack.environment = environment
    replace_drafter(stack, None)


def replace_drafter(stack: LocalStack, module: str | None) -> None:
    stack.kill("drafter")
    stack.start("drafter", module)
    stack.wait_ready("drafter")


def test_a_draft_that_goes_wrong_is_seen_until_it_is_right_again(
    stack: LocalStack, opened: Opener, healed: Path, shot: Keep
) -> None:
    tab = opened()
    page = tab.page
    with traffic(stack):
        tab.open()
        expect(page.get_by_text(f"full verification, because {COLLAPSE}")).to_be_visible(timeout=STOPS_MS)
        shot(tab, "drift-overview", after_s=3)
        page.get_by_role("link", name="Mode").click()
        verifiers = page.get_by_role("region", name="What verifiers do")
        expect(verifiers).to_contain_text(COLLAPSE)
        shot(tab, "drift-mode")
        healed.touch()
        expect(verifiers).not_to_contain_text(COLLAPSE, timeout=BACK_MS)
        expect(verifiers).to_contain_text("Speculating")
        page.get_by_role("link", name="Overview").click()
        expect(page.get_by_text(COLLAPSE)).to_have_count(0)
        shot(tab, "drift-over")
