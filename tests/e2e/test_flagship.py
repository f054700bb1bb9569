"""The flagship property at test size: `make flagship` is the full one."""

from __future__ import annotations

import pytest
from rich.console import Console

from bench.flagship import compare, describe, streams
from tests.effort import THOROUGH, heavy


@pytest.mark.timeout(900)
@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=heavy)])
def test_the_running_system_draws_plain_decodings_tokens(dtype: str) -> None:
    verdict = compare(dtype, streams(40 if THOROUGH else 4), 48 if THOROUGH else 32, Console(quiet=True))
    print(describe(verdict))  # noqa: T201 - the count of ties belongs into the test's output
    assert verdict.accepted_per_step > 0.5
    assert verdict.holds, describe(verdict)
