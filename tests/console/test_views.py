"""What each view shows of a running cell, and what can be done in it."""

from __future__ import annotations

import re
from typing import Any

from bench.local import LocalStack
from tests.console.conftest import DESKTOP, PHONE, Keep, Opener, Tab, playwright, traffic

expect = playwright.expect
VIEWS = ("overview", "playground", "mode", "usage")
A_MODE = re.compile("Speculating|Full verification")
PROVENANCE = ".answer .tok"


def number(text: str) -> int:
    return int(text.replace(",", ""))


def run(page: Any, *, tokens: int = 64) -> None:
    page.get_by_label("Most tokens").fill(str(tokens))
    page.get_by_role("button", name="Run", exact=True).click()


def run_with_drafts(stack: LocalStack, page: Any, tokens: int) -> None:
    """On a busy machine drafts may come too late for a while; a new drafter is trusted anew."""
    for _ in range(4):
        run(page, tokens=tokens)
        expect(page.get_by_text(re.compile(f"^Ended .* after {tokens} tokens"))).to_be_visible()
        if number(page.locator(".provenance [data-kind=drafted] b").inner_text()):
            return
        stack.kill("drafter")
        stack.start("drafter")
        stack.wait_ready("drafter")
    raise AssertionError("nothing was drafted and accepted in four runs")


def test_the_overview_fills(stack: LocalStack, opened: Opener, shot: Keep) -> None:
    tab = opened()
    page = tab.page
    with traffic(stack):
        tab.open()
        expect(page.locator("#link-text")).to_have_text("Live")
        promises = page.get_by_role("region", name="Promises")
        expect(promises.get_by_role("row").filter(has_text="chat")).to_contain_text("%")
        running = page.get_by_role("region", name="Running requests")
        expect(running.get_by_text(re.compile("to spare|behind|no target")).first).to_be_visible()
        assert re.fullmatch(r"[0-9a-f]{6}…[0-9a-f]{4}", running.locator("code").first.inner_text())
        expect(page.locator(".depths li").first).to_contain_text("of")
        expect(page.locator(".chart canvas")).to_have_count(4)
        expect(page.get_by_role("region", name="Verifiers")).to_contain_text(A_MODE)
        shot(tab, "overview-light", after_s=30)
    expect(page.locator("#view-overview .verdict")).not_to_be_empty()


def test_the_overview_claims_no_more_than_it_has_seen(opened: Opener) -> None:
    tab = opened()
    tab.open()

    def told(**chat: Any) -> tuple[str, str]:
        batch = {"name": "batch", "objective": None, "requests": 500, "attainment": 0.0}
        snapshot = {
            "classes": [{"name": "chat", "objective": 0.9, **chat}, batch],
            "verifiers": [{"name": "v", "mode": "speculative", "mode_reason": "", "calibration_error": 0.1}],
            "drafters": [{}],
            "selectors": [{}],
            "queue": {"tiers": []},
            "redis": {"used_bytes": 0, "max_bytes": 0},
        }
        script = "async (told) => (await import('/console/verdict.js')).verdict(told)"
        found = tab.page.evaluate(script, snapshot)
        return found["level"], found["title"]

    assert told(requests=0, attainment=None) == ("idle", "Nothing to report")
    assert told(requests=500, attainment=1.0, objective=None) == ("idle", "Nothing to report")
    assert told(requests=1, attainment=0.0) == ("idle", "Too few requests to say")
    assert told(requests=19, attainment=1.0) == ("idle", "Too few requests to say")
    assert told(requests=20, attainment=0.9) == ("ok", "Every objective is met at this gateway")
    assert told(requests=20, attainment=0.85) == ("bad", "One thing is wrong")


def test_a_class_without_an_objective_neither_keeps_nor_misses_it(opened: Opener) -> None:
    tab = opened()
    tab.open()
    script = """async (one) => {
      const { classTable } = await import("/console/classes.js");
      const { node, draw } = classTable();
      draw({ classes: [one] });
      const state = node.querySelector(".state");
      return [state.dataset.level, state.textContent, node.querySelector(".attained b").textContent];
    }"""
    custom = {"name": "custom", "objective": None, "tpot_ms": None, "requests": 500, "attainment": 0.4}
    assert tab.page.evaluate(script, custom) == ["idle", "nothing to tell", "40.0 %"]
    assert tab.page.evaluate(script, {**custom, "objective": 0.9})[0] == "bad"


def test_a_tenant_that_is_named_has_its_classes_and_iterations(opened: Opener) -> None:
    tab = opened()
    page = tab.page
    tab.open("playground")
    expect(page.locator("#f-target option")).to_have_count(4)
    page.get_by_role("form", name="Request").get_by_text("Tenant", exact=True).click()
    page.locator("#f-name").fill("acme")
    page.keyboard.press("Tab")
    own = ["A pace of my own", "Class batch (default)", "None: best effort"]
    expect(page.locator("#f-target option")).to_have_text(own)
    with page.expect_request("**/inspect*") as looked:
        run(page)
    assert looked.value.headers["x-adaserve-tenant"] == "acme"
    expect(page.get_by_role("listbox", name="Iterations").get_by_role("option").first).to_be_visible()


def test_the_playground_streams_tokens_by_where_they_came_from(
    stack: LocalStack, opened: Opener, shot: Keep
) -> None:
    tab = opened()
    page = tab.page
    tab.open("playground")
    expect(page.locator(".slider-mark")).to_have_text("idle pace")
    run_with_drafts(stack, page, tokens=96)
    drafted, own = page.locator(f"{PROVENANCE}.drafted"), page.locator(f"{PROVENANCE}.own")
    expect(page.locator(f"{PROVENANCE}.mixed")).to_have_count(0)
    shown = page.locator(".provenance")
    counts = [number(shown.locator(f"[data-kind={kind}] b").inner_text()) for kind in ("drafted", "own")]
    assert sum(counts) == 96
    assert min(counts) > 0
    assert (drafted.count(), own.count()) == tuple(counts)
    lines = [one.first.evaluate("node => getComputedStyle(node).textDecorationStyle") for one in (drafted, own)]
    assert lines == ["solid", "dotted"]  # not by colour alone
    meter = page.get_by_role("meter", name="Time per output token")
    assert re.search(r"ms (faster|slower) than the target", meter.get_attribute("aria-valuetext"))
    shot(tab, "playground-light")


def test_iterations_and_their_trees_are_walked_by_keyboard(stack: LocalStack, opened: Opener) -> None:
    tab = opened()
    page = tab.page
    tab.open("playground")
    run_with_drafts(stack, page, tokens=64)
    strip = page.get_by_role("listbox", name="Iterations")
    expect(strip.get_by_role("option", selected=True)).to_have_count(1)
    strip.focus()
    page.keyboard.press("Home")
    heading = page.get_by_role("heading", name=re.compile("^Iteration 1 of"))
    expect(heading).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name=re.compile("^Iteration 2 of"))).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(heading).to_be_visible()
    page.locator(f"{PROVENANCE}.drafted").first.click()
    tree = page.get_by_role("region", name="Token tree")
    accepted = tree.locator("g.node.accepted")
    assert accepted.count() > 0
    accepted.first.focus()
    assert re.fullmatch(
        r"“.+”, depth 1, <?\d+ %: accepted, chosen for .+", page.evaluate("document.activeElement.ariaLabel")
    )
    page.get_by_text("The tree as a table").click()
    rows = page.get_by_role("table", name="Nodes of the token tree").get_by_role("row")
    assert rows.count() == tree.locator("g.node").count()  # a heading for the root


def test_a_run_can_be_stopped(stack: LocalStack, opened: Opener) -> None:
    tab = opened()
    page = tab.page
    tab.open("playground")
    page.get_by_label("Speculation").uncheck()
    with page.expect_response("**/v1/completions") as answered:
        run(page, tokens=1500)
    expect(page.get_by_text("tokens so far")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text(re.compile(r"^Stopped after \d+ tokens\.$"))).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    stream = answered.value.headers["x-adaserve-stream"]
    page.wait_for_timeout(500)
    told = page.request.delete(f"{stack.url}/v1/streams/{stream}").json()
    assert told["status"] == "cancelled"


def test_an_error_is_told_in_words(opened: Opener, shot: Keep) -> None:
    tab = opened()
    tab.expects_refusals = True
    page = tab.page
    tab.open("playground")
    run(page, tokens=1_000_000)
    alert = page.get_by_role("alert").filter(visible=True)
    expect(alert).to_contain_text("max_tokens")
    expect(alert).to_contain_text("Field: max_tokens.")
    shot(tab, "problem-light")


def test_the_mode_is_switched_and_back(stack: LocalStack, opened: Opener, shot: Keep) -> None:
    tab = opened()
    tab.expects_refusals = True
    page = tab.page
    tab.open("mode")
    verifiers = page.get_by_role("region", name="What verifiers do")
    expect(verifiers).to_contain_text(A_MODE)
    page.get_by_role("button", name="Switch speculation off…").click()
    reason = "<img src=x onerror=alert(1)> retraining"
    page.get_by_role("dialog").get_by_label("Reason").fill(reason)
    page.get_by_role("dialog").get_by_role("button", name="Switch speculation off").click()
    orders = page.get_by_role("region", name="Orders in force")
    expect(orders).to_contain_text(reason)  # text stays text
    assert page.locator("main img").count() == 0
    with traffic(stack, streams=1):
        expect(verifiers).to_contain_text("an operator has ordered it")
    shot(tab, "mode-off-light")
    orders.get_by_role("button", name="Withdraw").click()
    page.get_by_role("dialog").get_by_role("button", name="Back to automatic").click()
    expect(orders).to_contain_text("No order is in force")
    with traffic(stack, streams=1):
        expect(verifiers).not_to_contain_text("an operator has ordered it")
    page.locator("#scope").select_option("class")
    page.locator("#scope-name").fill("typo")
    page.get_by_role("button", name="Switch speculation off…").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Switch speculation off…").click()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("'typo' is not in the policy")


def test_usage_is_shown_and_saved(stack: LocalStack, opened: Opener, shot: Keep) -> None:
    stack.complete({"prompt": "import os\n", "max_tokens": 8})
    tab = opened()
    tab.expects_refusals = True
    page = tab.page
    tab.open("usage")
    usage = page.get_by_role("region", name="Usage by tenant and class")
    told = usage.get_by_text(re.compile("Counted from|does not count|Nothing was"))
    expect(told).to_be_visible()
    if "does not count" in told.inner_text():
        return
    expect(usage.get_by_role("row").filter(has_text="default").first).to_contain_text("chat")
    page.locator("#u-by").select_option("hour")
    page.get_by_role("button", name="Show").click()
    expect(usage.get_by_role("columnheader", name="Start")).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    assert "tenant" in saved.value.path().read_text().splitlines()[0]
    page.locator("#u-until").fill("")
    page.get_by_role("button", name="CSV").click()
    expect(page.locator("#u-until")).to_be_focused()  # the browser says what is missing
    expect(page.get_by_role("alert").filter(visible=True)).to_have_count(0)
    page.reload()
    shot(tab, "usage-light")


def test_no_view_scrolls_sideways_on_a_phone(stack: LocalStack, opened: Opener, shot: Keep) -> None:
    tab = opened(viewport=PHONE, has_touch=True)
    tab.expects_refusals = True
    page = tab.page
    with traffic(stack, streams=2):
        for view in VIEWS:
            tab.open(view)
            expect(page.locator(f"#view-{view}")).to_be_visible()
            if view == "playground":
                run(page)
                expect(page.get_by_text(re.compile("^Ended"))).to_be_visible()
            page.wait_for_timeout(1_500)
            assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], view
            shot(tab, f"{view}-phone", after_s=2)


def test_colours_follow_the_system_and_can_be_chosen(opened: Opener, shot: Keep) -> None:
    def ground(tab: Tab) -> Any:
        return tab.page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = opened(viewport=DESKTOP), opened(viewport=DESKTOP, color_scheme="dark")
    dark.expects_refusals = True
    for tab in (light, dark):
        tab.open()
    assert ground(light) == "rgb(245, 246, 248)"
    assert ground(dark) == "rgb(13, 16, 21)"
    toggle = light.page.get_by_role("button", name="Dark colours")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    assert ground(light) == ground(dark)
    light.page.reload()
    assert ground(light) == ground(dark)
    for view in VIEWS:
        dark.open(view)
        if view == "playground":
            run(dark.page)
            expect(dark.page.get_by_text(re.compile("^Ended"))).to_be_visible()
        shot(dark, f"{view}-dark", after_s=3)
