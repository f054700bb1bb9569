"""Minutes, what is left of them, and OpenAI's headers (services/gateway/rate_limits.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import rate_limits
from services.gateway.rate_limits import Standing, Window


@given(st.floats(0, 4e9))
def test_a_window_is_a_minute_of_the_clock(now_s: float) -> None:
    window = Window.at(now_s)
    assert 60 * window.minute <= now_s < 60 * (window.minute + 1)
    assert now_s + window.left_s == pytest.approx(60 * (window.minute + 1))
    assert not window.is_over(now_s)
    assert window.is_over(60 * (window.minute + 1))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (-1, "0ms"),
        (0.017, "17ms"),
        (0.9999, "1s"),
        (1, "1s"),
        (8.64, "8.64s"),
        (60, "1m0s"),
        (361.5, "6m1.5s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert rate_limits.duration(seconds) == text


def test_headers_tell_limit_rest_and_reset() -> None:
    standings = {"requests": Standing("requests", 10, 4, 30.0), "tokens": Standing("tokens", 100, 130, 30.0)}
    assert rate_limits.headers_of(standings) == {  # type: ignore[arg-type]
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "6",
        "x-ratelimit-reset-requests": "30s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "30s",
    }


def test_a_refusal_names_limit_rest_and_when() -> None:
    error = rate_limits.exceeded(Standing("tokens", 100, 60, 12.3456), "acme", 50)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.message == (
        "tenant acme may use 100 tokens per minute (tpm); 40 are left in this one, and the request takes 50"
    )
    error.standings = {"x-ratelimit-limit-tokens": "100"}
    assert error.headers() == {
        "retry-after": "13",
        "retry-after-ms": "12346",
        "x-ratelimit-limit-tokens": "100",
    }
    assert error.body()["error"]["adaserve"] == {"tpm": 100}


def test_choices_count_one_by_one() -> None:
    error = rate_limits.too_many_at_once("acme", 4, 3, 1.0)
    assert (error.status, error.code) == (429, "concurrency_limit_exceeded")
    assert "3 choices" in error.message
    assert "choices" not in rate_limits.too_many_at_once("acme", 4, 1, 1.0).message


def test_what_never_fits_is_the_clients_fault() -> None:
    error = rate_limits.never_fits("tpm", 500, 100, "acme", "max_tokens")
    assert (error.status, error.param) == (400, "max_tokens")
    assert "500" in error.message
    assert "100" in error.message
