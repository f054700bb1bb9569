"""Speculation against plain decoding, both in bfloat16, at test size: `make distribution` is the full one."""

from __future__ import annotations

import pytest

from bench.distribution import measure


@pytest.mark.timeout(600)
def test_speculation_in_bfloat16_draws_as_plain_decoding_does() -> None:
    verdict = measure(samples=400, tokens=8, prompts=1)
    print(verdict.describe())  # noqa: T201 - the p-values belong into the test's output
    assert verdict.accepted_per_step > 0.4
    assert verdict.holds, verdict.describe()
