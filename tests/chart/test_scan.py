"""The exceptions of the security scan: each has its reason, and covers only what it names."""

from __future__ import annotations

from tests.chart.scan import Allowed, Finding, exceptions, judged

FOUND = [
    Finding("minimal", "CKV_K8S_1", "Deployment.default.x-gateway", "one thing"),
    Finding("minimal", "CKV_K8S_2", "Deployment.default.x-gateway", "another"),
]


def test_every_exception_says_why() -> None:
    for one in exceptions():
        assert one.check.startswith(("CKV_K8S_", "CKV2_K8S_"))
        assert len(one.reason.split()) >= 6, one
        assert one.resources


def test_no_exception_is_given_twice() -> None:
    pairs = [(one.check, pattern) for one in exceptions() for pattern in one.resources]
    assert len(pairs) == len(set(pairs))


def test_a_finding_needs_an_exception_of_its_own() -> None:
    allowed = Allowed("CKV_K8S_1", ("Deployment.*-gateway",), "because")
    assert judged(FOUND, [allowed]) == ([FOUND[1]], [])


def test_an_exception_that_nothing_needs_is_told() -> None:
    other = Allowed("CKV_K8S_1", ("Deployment.*-drafter",), "because")
    assert judged(FOUND, [other]) == (FOUND, [other])
