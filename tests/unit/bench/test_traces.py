"""Traces: what a request may be, and CSV files that survive a round trip or are refused in plain words."""

from __future__ import annotations

import gzip
import math
import string
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.trace_files import AZURE_COLUMNS, COLUMNS, read_trace, write_trace
from bench.traces import MAX_ARRIVAL_MS, MAX_MS, MAX_RATIO, MAX_TOKENS, Trace, TraceRequest, sorted_trace
from shared.errors import ConfigurationError, TraceError

HEADER = ",".join(COLUMNS)
AZURE_HEADER = ",".join(AZURE_COLUMNS)

_sizes = st.integers(1, MAX_TOKENS)
_targets = st.one_of(
    st.just((None, None)),
    st.tuples(st.floats(0, MAX_RATIO, exclude_min=True), st.none()),
    st.tuples(st.none(), st.floats(0, MAX_MS, exclude_min=True)),
)
_requests = st.builds(
    lambda arrival_ms, category, prompt, output, targets, prompt_id: TraceRequest(
        arrival_ms=arrival_ms,
        category=category,
        prompt_tokens=prompt,
        output_tokens=output,
        tpot_ratio=targets[0],
        tpot_ms=targets[1],
        prompt_id=prompt_id,
    ),
    st.floats(0, MAX_ARRIVAL_MS),
    st.text(string.ascii_letters + '_-,"é ', min_size=1, max_size=20),
    _sizes,
    _sizes,
    _targets,
    st.text(string.printable.replace("\r", ""), max_size=12),
)


def request(arrival_ms: float = 0.0, **fields: object) -> TraceRequest:
    """A short one."""
    return TraceRequest(
        **{"arrival_ms": arrival_ms, "category": "c", "prompt_tokens": 3, "output_tokens": 4, **fields}  # type: ignore[arg-type]
    )


@given(requests=st.lists(_requests, min_size=1, max_size=8), suffix=st.sampled_from(["csv", "csv.gz"]))
@settings(max_examples=50)
def test_a_written_trace_is_read_back_exactly(requests: list[TraceRequest], suffix: str) -> None:
    trace = sorted_trace("mine", requests)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"mine.{suffix}"
        write_trace(trace, path)
        assert read_trace(path) == trace


@given(requests=st.lists(_requests, min_size=1, max_size=8), zero_load_ms=st.floats(0.1, 100))
def test_targets_are_relative_absolute_or_none(requests: list[TraceRequest], zero_load_ms: float) -> None:
    for one in requests:
        target = one.target_ms(zero_load_ms)
        if one.tpot_ratio is not None:
            assert target == one.tpot_ratio * zero_load_ms
        else:
            assert target == (math.inf if one.tpot_ms is None else one.tpot_ms)


@given(requests=st.lists(_requests, min_size=1, max_size=8), speed=st.floats(1, 100), lengths=st.floats(0.01, 1))
def test_scaling_keeps_requests_and_multiplies_the_rate(
    requests: list[TraceRequest], speed: float, lengths: float
) -> None:
    trace = sorted_trace("mine", requests)
    scaled = trace.scaled(speed=speed, lengths=lengths)
    assert [one.category for one in scaled.requests] == [one.category for one in trace.requests]
    assert scaled.duration_ms == trace.duration_ms / speed
    pairs = zip(scaled.requests, trace.requests, strict=True)
    assert all(1 <= one.output_tokens <= old.output_tokens for one, old in pairs)


def test_head_takes_by_time_and_by_number() -> None:
    trace = sorted_trace("mine", [request(2_000), request(0), request(1_000)])
    assert [one.arrival_ms for one in trace.requests] == [0, 1_000, 2_000]
    assert trace.head(seconds=1).duration_ms == 1_000
    assert len(trace.head(requests=1).requests) == 1
    assert trace.rate == 1.5
    assert trace.head(requests=1).rate == 0.0
    assert trace.categories == ("c",)
    with pytest.raises(ValueError, match="at least one"):
        trace.head(requests=0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"arrival_ms": -1.0}, "arrival_ms=-1: must be from 0 to 1e"),
        ({"arrival_ms": math.nan}, "arrival_ms=nan"),
        ({"prompt_tokens": 0}, "prompt_tokens=0: must be from 1"),
        ({"output_tokens": MAX_TOKENS + 1}, "output_tokens="),
        ({"tpot_ratio": 0.0}, "tpot_ratio=0: must be above 0"),
        ({"tpot_ms": math.inf}, "tpot_ms=inf: must be above 0 and at most 3.6e"),
        ({"tpot_ratio": 1.0, "tpot_ms": 1.0}, "at most one of both"),
        ({"category": ""}, "category='': must be 1 to 64"),
        ({"category": "a\nb"}, "printable"),
    ],
)
def test_a_request_outside_its_bounds_is_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        request(**fields)  # type: ignore[arg-type]


def test_a_trace_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match="sorted"):
        Trace(name="mine", requests=(request(1), request(0)))


def written(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_lines_in_any_order_blank_lines_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    text = f"\ufeff{HEADER}\r\n20,b,1,2,,50,x\r\n\r\n10,a,3,4,1.2,,\r\n"
    trace = read_trace(written(tmp_path, text))
    assert [(one.category, one.tpot_ratio, one.tpot_ms) for one in trace.requests] == [
        ("a", 1.2, None),
        ("b", None, 50.0),
    ]
    assert trace.name == "t"


def test_azure_traces_start_at_zero_with_a_class_of_our_choice(tmp_path: Path) -> None:
    text = f"{AZURE_HEADER}\n2023-11-16 18:15:50.9951690,396,109\n2023-11-16 18:15:46.6805900,374,44\n"
    trace = read_trace(written(tmp_path, text), category="conversation", tpot_ms=80.0)
    assert [one.arrival_ms for one in trace.requests] == [0.0, 4314.579]
    assert [one.prompt_tokens for one in trace.requests] == [374, 396]
    assert {(one.category, one.tpot_ms) for one in trace.requests} == {("conversation", 80.0)}


MALFORMED = {
    "": "the file is empty; its header must be arrival_ms,",
    "\n\n": "the file is empty",
    "a,b\n1,2\n": "line 1: header 'a,b': must be arrival_ms,",
    "arrival_ms,category\n": "line 1: the header lacks prompt_tokens, output_tokens",
    f"{HEADER}\n": "no requests; a trace has at least one",
    f"{HEADER}\n1,c,1,1,,\n": "line 2: 6 values for 7 columns",
    f"{HEADER}\n0,c,1,1,,,\nsoon,c,1,1,,,\n": "line 3, arrival_ms='soon': must be a finite number",
    f"{HEADER}\nnan,c,1,1,,,\n": "line 2, arrival_ms='nan': must be a finite number",
    f"{HEADER}\n-1,c,1,1,,,\n": "line 2, arrival_ms=-1: must be from 0 to 1e\\+10",
    f"{HEADER}\n1e999,c,1,1,,,\n": "line 2, arrival_ms=inf: must be from 0",
    f"{HEADER}\n0,,1,1,,,\n": "line 2, category='': must be 1 to 64",
    f"{HEADER}\n0,c,1.5,1,,,\n": "line 2, prompt_tokens='1.5': must be a whole number",
    f"{HEADER}\n0,c,,1,,,\n": "line 2, prompt_tokens='': must be a whole number",
    f"{HEADER}\n0,c,{'9' * 60},1,,,\n": "line 2, prompt_tokens='9{40}…': must be a whole number",
    f"{HEADER}\n0,c,1,0,,,\n": "line 2, output_tokens=0: must be from 1 to 1.04858e\\+06",
    f"{HEADER}\n0,c,1,1,-2,,\n": "line 2, tpot_slo_ratio=-2: must be above 0 and at most 1000",
    f"{HEADER}\n0,c,1,1,,inf,\n": "line 2, tpot_slo_ms='inf': must be a finite number",
    f"{HEADER}\n0,c,1,1,1.2,50,\n": "line 2, tpot_slo_ratio=1.2 and tpot_slo_ms=50: a request has at most one",
    f'{HEADER}\n0,"c,1,1,,,\n': "line 2: not CSV",
    f"{AZURE_HEADER}\nyesterday,1,1\n": "line 2, TIMESTAMP='yesterday': must be a time like 2023",
    f"{AZURE_HEADER}\n2023-02-31 00:00:00.0,1,1\n": "line 2, TIMESTAMP='2023-02-31 00:00:00.0'",
    f"{AZURE_HEADER}\n2023-11-16 18:15:46,x,1\n": "line 2, ContextTokens='x': must be a whole number",
    f"{AZURE_HEADER}\n2023-11-16 18:15:46,1,0\n": "line 2, GeneratedTokens=0: must be from 1",
}


@pytest.mark.parametrize(("text", "words"), MALFORMED.items(), ids=map(repr, MALFORMED.values()))
def test_a_malformed_file_is_refused_with_line_column_value_and_limit(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(TraceError, match=words) as caught:
        read_trace(written(tmp_path, text))
    assert "t.csv" in str(caught.value)
    assert isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"\xff\xfe\x00", "not text in UTF-8"),
        ("t.csv.gz", b"plain text", "compression is broken"),
        ("t.csv.gz", gzip.compress(HEADER.encode() * 99, mtime=0)[:40], "compression is broken"),
    ],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    with pytest.raises(TraceError, match=words):
        read_trace(written(tmp_path, content, name))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"absent\.csv: cannot be read \(No such file"):
        read_trace(tmp_path / "absent.csv")


def test_a_file_with_too_many_requests_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.trace_files.MAX_REQUESTS", 2)
    with pytest.raises(TraceError, match="line 4: more than 2 requests"):
        read_trace(written(tmp_path, f"{HEADER}\n" + "0,c,1,1,,,\n" * 3))
