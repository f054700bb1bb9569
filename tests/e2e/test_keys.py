"""A gateway with API keys and limits in front of the running system, reachable from other machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from bench.local import LocalStack
from tests.key_files import made_for_file

NAME = "gateway-with-keys"
POLICY = """
classes:
  chat: {}
tenants:
  acme: {classes: [chat], default: chat, rpm: 1000, tpm: 100000, max_concurrent: 8}
  small: {classes: [chat], default: chat, max_concurrent: 1}
"""


@pytest.fixture(scope="module")
def guarded(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """URL of a second gateway of the stack, and a key of each tenant."""
    folder: Path = tmp_path_factory.mktemp("keys")
    (acme_entry, acme), (small_entry, small) = (
        made_for_file("--tenant", "acme"),
        made_for_file("--tenant", "small"),
    )
    (folder / "keys.yaml").write_text(f"keys:\n{acme_entry}{small_entry}")
    (folder / "policy.yaml").write_text(POLICY)
    own = {
        "HTTP_HOST": "0.0.0.0",
        "KEYS_FILE": str(folder / "keys.yaml"),
        "POLICY_FILE": str(folder / "policy.yaml"),
    }
    stack.settings = {**stack.settings, NAME: {**stack.settings["gateway"], **own}}
    stack.start(NAME, "services.gateway")
    stack.wait_ready(NAME)
    yield f"http://127.0.0.1:{stack.ports[NAME]}", acme, small
    stack.processes[NAME].terminate()
    stack.processes[NAME].wait()
    del stack.processes[NAME]  # of the session's stack, whose processes are expected to live


def test_only_a_key_opens_it_and_its_limits_are_told(guarded: tuple[str, str, str]) -> None:
    url, key, _ = guarded
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="sk-no-body", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError, match="API key is not known"),
    ):
        stranger.models.list()
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60) as client:
        told = client.completions.with_raw_response.create(model="default", prompt="import os", max_tokens=8)
        assert told.headers["x-ratelimit-limit-requests"] == "1000"
        assert told.headers["x-ratelimit-limit-tokens"] == "100000"
        taken = 100_000 - int(told.headers["x-ratelimit-remaining-tokens"])
        usage = told.parse().usage
        assert usage is not None
        assert taken == usage.prompt_tokens + 8


def test_one_request_at_a_time(guarded: tuple[str, str, str]) -> None:
    url, _, key = guarded
    headers = {"authorization": f"Bearer {key}"}
    body = {"prompt": "import os", "max_tokens": 100, "ignore_eos": True}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
            lines = response.iter_lines()
            next(lines)
            refused = client.post("/v1/completions", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrency_limit_exceeded")
            assert "retry-after" in refused.headers
            assert list(lines)[-2] == "data: [DONE]"
        while (again := client.post("/v1/completions", json={**body, "max_tokens": 1})).status_code == 429:
            assert again.json()["error"]["code"] == "concurrency_limit_exceeded"
        assert again.status_code == 200
