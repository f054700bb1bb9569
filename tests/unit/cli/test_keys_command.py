"""`adaserve keys` says what to do about what a gateway refuses."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.unit.cli.fake_gateway import running


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "tenant: 'default' is not in the policy; there are acme",
            "there are acme: name one of them with --tenant",
        ),
        ("note: too long", "note: too long"),
    ],
)
def test_a_tenant_that_the_policy_does_not_have_is_told_with_the_option(message: str, told: str) -> None:
    with running() as gateway:
        gateway.status, gateway.body = 400, json.dumps({"error": {"message": message}}).encode()
        done = CliRunner().invoke(app, ["keys", "create", "--url", gateway.url])
    assert done.exit_code == 1
    assert done.output.strip().endswith(told)
    assert gateway.asked[0]["tenant"] == "default"
