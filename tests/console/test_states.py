"""The console when something is not there: the gateway, a key, live figures."""

from __future__ import annotations

import re

from bench.local import LocalStack
from tests.console.conftest import KEY, Keep, Opener, playwright
from tests.console.test_views import run

expect = playwright.expect


def test_a_wrong_key_is_told_and_the_right_one_stays_in_the_tab(opened: Opener, shot: Keep) -> None:
    tab = opened(key=None)
    tab.expects_refusals = True
    page = tab.page
    tab.open()
    expect(page.get_by_role("heading", name="A key of the scope admin is needed")).to_be_visible()
    shot(tab, "key-light")
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Admin key").fill("schlüssel")
    page.get_by_role("button", name="Use keys").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert "ASCII" in page.get_by_label("Admin key").evaluate("field => field.validationMessage")
    page.get_by_role("button", name="Cancel").click()
    for key, state in (("sk-wrong", "Key needed"), (KEY, "Live")):
        page.get_by_role("button", name="Keys").click()
        page.get_by_label("Admin key").fill(key)
        page.get_by_role("button", name="Use keys").click()
        expect(page.locator("#link-text")).to_have_text(state)
        if state != "Live":
            expect(page.get_by_text("This is neither ADASERVE_ADMIN_KEY nor an API key")).to_be_visible()
    assert page.evaluate("Object.values(localStorage).join()") == ""
    page.reload()
    expect(page.locator("#link-text")).to_have_text("Live")
    page.get_by_role("button", name="Keys").click()
    page.get_by_role("button", name="Forget both").click()
    expect(page.locator("#link-text")).to_have_text("Key needed")
    assert page.evaluate("sessionStorage.length") == 0


def test_a_gateway_that_goes_and_comes_back(stack: LocalStack, opened: Opener, shot: Keep) -> None:
    tab = opened()
    tab.expects_refusals = True
    page = tab.page
    tab.open()
    expect(page.locator("#link-text")).to_have_text("Live")
    stack.kill("gateway")
    expect(page.locator("#link-text")).to_have_text("Disconnected")
    expect(page.locator("#banner")).to_contain_text(re.compile(r"Figures are \d+ s old\. Next try in \d+ s\."))
    shot(tab, "away-light")
    page.get_by_role("link", name="Playground").click()
    run(page)
    expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("The gateway does not answer")
    stack.start("gateway")
    stack.wait_ready("gateway")
    expect(page.locator("#link-text")).to_have_text("Live")
    expect(page.locator("#banner")).to_be_hidden()
    run(page)
    expect(page.get_by_text(re.compile("^Ended"))).to_be_visible()


def test_a_gateway_without_the_newer_routes_still_serves_the_rest(opened: Opener) -> None:
    tab = opened()
    tab.expects_refusals = True
    page = tab.page
    missing = {"error": {"message": "There is no such path", "code": "not_found", "param": None}}
    for path in ("**/admin/live", "**/admin/usage*", "**/inspect*"):
        page.route(path, lambda route: route.fulfill(status=404, json=missing))
    tab.open()
    expect(page.get_by_role("heading", name="This gateway has no live figures")).to_be_visible()
    page.get_by_role("link", name="Usage").click()
    expect(page.get_by_text("This gateway does not count usage.")).to_be_visible()
    page.get_by_role("link", name="Playground").click()
    run(page)
    expect(page.get_by_text(re.compile("^Ended"))).to_be_visible()
    expect(page.get_by_text("did not tell the iterations")).to_be_visible()
    page.get_by_role("link", name="Mode").click()
    expect(page.get_by_role("region", name="What verifiers do")).to_contain_text("verifier")
