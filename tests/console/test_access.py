"""By keyboard alone, by name, and with enough contrast."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bench.local import LocalStack
from tests.console.conftest import Opener, playwright, traffic
from tests.console.test_views import VIEWS, run

expect = playwright.expect

# Text that is seen, with what it stands on: the first opaque ground among its ancestors.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const numbers = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const light = ([r, g, b]) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [x, y, z] = [r, g, b].map((v) => linear(v / 255));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility({ opacityProperty: true })) continue;
    if (node.closest("svg, canvas, .visually-hidden, .sprite, :disabled, .skip, select")) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(numbers(style.color)), light(ground(node))].sort((x, y) => y - x);
    found.push([Math.round(((a + 0.05) / (b + 0.05)) * 100) / 100, walker.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
}"""
NAMELESS = """() => [...document.querySelectorAll("button, a, input, select, textarea, [role], dialog, section")]
  .filter((node) => node.checkVisibility())
  .filter((node) => !["status", "alert", "presentation", "group"].includes(node.getAttribute("role")))
  .filter((node) => !(node.ariaLabel || node.textContent.trim() || node.labels?.length
    || document.getElementById(node.getAttribute("aria-labelledby"))))
  .map((node) => node.outerHTML.slice(0, 120))"""
FOCUSED = "document.activeElement.ariaLabel || document.activeElement.textContent.trim()"
AXE_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}


def filled(page: Any, view: str) -> None:
    expect(page.locator(f"#view-{view}")).to_be_visible()
    if view == "playground":
        run(page)
        expect(page.get_by_text(re.compile("^Ended"))).to_be_visible()
        expect(page.locator(".tree g.node").first).to_be_visible()
    if view == "overview":
        expect(page.get_by_role("region", name="Running requests").locator("code").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_and_controls_have_names(stack: LocalStack, opened: Opener, scheme: str) -> None:
    tab = opened(color_scheme=scheme, reduced_motion="reduce")
    tab.expects_refusals = True
    with traffic(stack, streams=2):
        for view in VIEWS:
            tab.open(view)
            filled(tab.page, view)
            found = tab.page.evaluate(CONTRASTS)
            assert len(found) > 10
            assert [one for one in found if one[0] < 4.5] == [], view
            assert tab.page.evaluate(NAMELESS) == [], view


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(stack: LocalStack, opened: Opener, axe: str, scheme: str) -> None:
    tab = opened(color_scheme=scheme)
    tab.expects_refusals = True
    with traffic(stack, streams=1):
        for view in VIEWS:
            tab.open(view)
            filled(tab.page, view)
            tab.page.evaluate(axe)
            report = tab.page.evaluate("rules => axe.run(document, rules)", AXE_RULES)
            found = [(one["id"], node["html"][:160]) for one in report["violations"] for node in one["nodes"]]
            assert found == [], view


def test_every_view_is_reached_by_keyboard(opened: Opener) -> None:
    tab = opened()
    tab.expects_refusals = True
    page = tab.page
    tab.open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    names = []
    for _ in range(7):
        page.keyboard.press("Tab")
        names.append(page.evaluate(FOCUSED))
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid", names[-1]
    assert names == ["AdaServe", "Overview", "Playground", "Mode", "Usage", "Keys", "Dark colours"]
    page.get_by_role("link", name="Playground").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#view-playground")).to_be_visible()
    expect(page).to_have_title("Playground · AdaServe")
    assert page.get_by_role("link", name="Playground").get_attribute("aria-current") == "page"
    page.get_by_label("Prompt").focus()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#announcer")).to_contain_text("The answer has ended")


def test_a_copy_button_keeps_the_focus_while_figures_change(stack: LocalStack, opened: Opener) -> None:
    tab = opened()
    page = tab.page
    with traffic(stack, streams=2):
        tab.open()
        button = page.get_by_role("button", name="Copy the id").first
        button.focus()
        label = page.evaluate("document.activeElement.ariaLabel")
        page.wait_for_timeout(1_500)
        now = page.evaluate("document.activeElement.ariaLabel")
        still = page.get_by_role("button", name=label).count()
        assert now == label or still == 0  # its request may have ended
