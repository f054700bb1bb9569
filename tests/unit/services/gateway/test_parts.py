"""Small parts of the gateway: limits on bodies, chat templates, targets, accounts, settings."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.gateway.accounts import Account
from services.gateway.bodies import json_depth
from services.gateway.chat_template import ChatTemplate, ChatTemplateError
from services.gateway.errors import ApiError
from services.gateway.schemas import SloOptions
from services.gateway.settings import GatewaySettings, is_loopback
from services.gateway.slo import Slo, check_feasible, resolve
from shared.errors import ModelError

JSON = st.recursive(
    st.none() | st.integers() | st.text('[{"\\}]a', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\', max_size=3), inner, max_size=3),
    max_leaves=20,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(JSON)
def test_json_depth_counts_brackets_outside_strings(value: Any) -> None:
    assert json_depth(json.dumps(value).encode()) == depth_of(value)


@given(st.binary(max_size=200))
@example(b'"' + b'\\"' * 200_000)
@example(b'"' * 400_001 + b"\\")
@example(b"[" * 500_000)
def test_json_depth_takes_any_bytes(body: bytes) -> None:
    assert 0 <= json_depth(body) <= len(body)


def test_a_template_sees_what_hugging_face_gives_it() -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}\n    {% if m.role == 'user' %}\nU{{ m.content | tojson }}"
        "{% continue %}{% endif %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
        "{% if add_generation_prompt %}A{% endif %}{{ strftime_now('%Y') | length }}"
    )
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": None})
    messages = [{"role": "user", "content": "<é>"}, {"role": "assistant", "content": "yes"}]
    assert template.render(messages) == '<s>U"<é>"yesA4'


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ raise_exception('bad: ' + messages[0].content) }}", "refuses these messages"),
        ("{{ messages[0].content.nothing.more }}", "refuses these messages"),
        ("{{ 1 // 0 }}", "refuses these messages"),
        ("{{ messages.append(1) }}", "refuses these messages"),
        ("{{ messages.__class__.__mro__ }}", "refuses these messages"),
    ],
)
def test_a_refusing_template_never_quotes_a_message(source: str, words: str) -> None:
    with pytest.raises(ChatTemplateError, match=words) as error:
        ChatTemplate(source, {}).render([{"role": "user", "content": "secret"}])
    assert "secret" not in str(error.value)


def test_a_broken_template_stops_the_start() -> None:
    with pytest.raises(ModelError, match="not valid Jinja"):
        ChatTemplate("{% if %}", {})


def test_body_comes_before_headers_and_own_headers_before_others() -> None:
    headers = {"x-slo-tpot-ms": "50", "x-llm-d-slo-tpot-ms": "60", "x-llm-d-slo-ttft-ms": "700"}
    assert resolve(SloOptions(tpot_ms=40), headers) == Slo(40.0, 700.0)
    assert resolve(None, headers) == Slo(50.0, 700.0)
    assert resolve(None, {}) == Slo()
    assert (Slo().name, Slo(ttft_ms=5).name) == ("best_effort", "custom")


def test_a_target_below_zero_load_is_refused_where_that_is_known() -> None:
    with pytest.raises(ApiError, match=r"3 is below 4\.5, .* without speculation"):
        check_feasible(Slo(tpot_ms=3), 4.5, speculation=False)
    with pytest.raises(ApiError, match=r"0\.4 is below 0\.5"):
        check_feasible(Slo(tpot_ms=0.4), 4.5, speculation=True)
    check_feasible(Slo(tpot_ms=3), 4.5, speculation=True)
    check_feasible(Slo(tpot_ms=3), None, speculation=False)
    check_feasible(Slo(), 4.5, speculation=False)


def account(**changes: Any) -> Account:
    values: dict[str, Any] = {
        "prompt_tokens": 3,
        "output_tokens": 5,
        "ttft_ms": 20.0,
        "first_ms": 100.0,
        "last_ms": 300.0,
        "stats": {},
        "slo": Slo(),
    }
    return Account(**(values | changes))


def test_tpot_is_the_time_after_the_first_token_over_the_other_tokens() -> None:
    metrics = account(slo=Slo(tpot_ms=50)).metrics()
    assert (metrics["mean_itl_ms"], metrics["generation_time_ms"], metrics["tokens_per_second"]) == (50, 200, 20)
    assert metrics["slo"]["met"] is True
    assert account(slo=Slo(tpot_ms=49.9)).met is False


def test_a_missed_first_token_misses_the_slo() -> None:
    assert account(slo=Slo(ttft_ms=19)).met is False
    assert account(slo=Slo(ttft_ms=20)).met is True
    assert account(slo=Slo(ttft_ms=20), ttft_ms=None).met is False


@pytest.mark.parametrize(
    "changes", [{"output_tokens": 0, "ttft_ms": None, "first_ms": None}, {"output_tokens": 1}]
)
def test_short_outputs_have_metrics_that_json_can_hold(changes: dict[str, Any]) -> None:
    metrics = account(**changes).metrics()
    json.dumps(metrics, allow_nan=False)
    assert (metrics["tokens_per_second"], metrics["slo"]["met"]) == (None, None)
    assert metrics["speculative_decoding"]["mean_acceptance_length"] is None
    assert math.isinf(account().slo.tpot_ms)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert GatewaySettings(target="models/tiny/", http_host=host).model_id == "tiny"
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_everything_else_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)
