"""Traces as CSV files, plain or `.gz`: our own columns, or those of the Azure LLM inference traces of 2023.

The header tells which. Lines may stand in any order of arrival and are sorted. Anything else that does not fit
stops the reading with the file, the line, the column, the value and what is allowed.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from bench.traces import Trace, TraceRequest, sorted_trace
from shared.errors import TraceError

COLUMNS = (
    "arrival_ms",
    "category",
    "prompt_tokens",
    "output_tokens",
    "tpot_slo_ratio",
    "tpot_slo_ms",
    "prompt_id",
)
AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MAX_REQUESTS = 1_000_000
MAX_SHOWN = 40  # characters of a value in an error

_FIELDS = {"tpot_slo_ratio": "tpot_ratio", "tpot_slo_ms": "tpot_ms"}  # where ours is named otherwise
_AZURE_FIELDS = {"TIMESTAMP": "arrival_ms", "ContextTokens": "prompt_tokens", "GeneratedTokens": "output_tokens"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_AZURE_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Line:
    """One line after the header: where it stands and its cells by column."""

    where: str
    cells: Mapping[str, str]

    def error(self, column: str, allowed: str) -> TraceError:
        value = self.cells[column]
        shown = value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}…"
        return TraceError(f"{self.where}, {column}={shown!r}: {allowed}")

    def number(self, column: str) -> float:
        if not _NUMBER.fullmatch(self.cells[column].strip()):
            raise self.error(column, "must be a finite number")
        return float(self.cells[column])

    def whole(self, column: str) -> int:
        if not _WHOLE.fullmatch(self.cells[column].strip()):
            raise self.error(column, "must be a whole number")
        return int(self.cells[column])

    def optional(self, column: str) -> float | None:
        return self.number(column) if self.cells[column].strip() else None


def read_trace(path: Path | str, *, category: str = "azure", tpot_ms: float | None = None) -> Trace:
    """The trace in a file; its name is the file's without endings.

    Azure's traces know neither categories nor targets: `category` and `tpot_ms` (None: best effort) stand in, and
    the first request arrives at 0 ms. Raises TraceError.
    """
    path = Path(path)
    try:
        with _open(path, "r") as file:
            header, lines = _read(path, file)
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: not text in UTF-8, or its compression is broken ({error})") from None
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror or error})") from None
    if header == AZURE_COLUMNS:
        requests = _azure(lines, {"category": category, "tpot_ms": tpot_ms})
    else:
        requests = [_request(line, _own_fields(line), _FIELDS) for line in lines]
    return sorted_trace(path.name.removesuffix(".gz").removesuffix(".csv"), requests)


def write_trace(trace: Trace, path: Path | str) -> None:
    """A file that `read_trace` reads back exactly, up to the trace's name."""
    with _open(Path(path), "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for request in trace.requests:
            targets = ("" if target is None else repr(target) for target in (request.tpot_ratio, request.tpot_ms))
            sizes = (request.prompt_tokens, request.output_tokens)
            writer.writerow((repr(request.arrival_ms), request.category, *sizes, *targets, request.prompt_id))


def _open(path: Path, mode: str) -> IO[str]:
    encoding = "utf-8-sig" if mode == "r" else "utf-8"  # spreadsheets write a byte order mark
    if path.suffix == ".gz":
        return gzip.open(path, f"{mode}t", encoding=encoding, newline="")  # type: ignore[return-value]
    return path.open(mode, encoding=encoding, newline="")


def _read(path: Path, file: IO[str]) -> tuple[tuple[str, ...], list[_Line]]:
    rows = _rows(path, file)
    number, names = next(rows, (1, []))
    header = tuple(name.strip() for name in names)
    if header not in (COLUMNS, AZURE_COLUMNS):
        raise TraceError(f"{path}, line {number}: {_header_words(header)}")
    lines = [_line(f"{path}, line {number}", header, cells) for number, cells in rows]
    if not lines:
        raise TraceError(f"{path}: has a header and no requests; a trace has at least one")
    return header, lines


def _rows(path: Path, file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells; blank lines are skipped."""
    reader = csv.reader(file, strict=True)
    try:
        for count, cells in enumerate(reader):
            if count > MAX_REQUESTS:
                raise TraceError(f"{path}, line {reader.line_num}: more than {MAX_REQUESTS} requests")
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise TraceError(f"{path}, line {reader.line_num}: not CSV ({error})") from None


def _header_words(header: tuple[str, ...]) -> str:
    wanted = f"must be {','.join(COLUMNS)}, or {','.join(AZURE_COLUMNS)} (Azure)"
    if not header:
        return f"the file is empty; its header {wanted}"
    missing = [column for column in COLUMNS if column not in header]
    if 0 < len(missing) < len(COLUMNS):
        return f"the header lacks {', '.join(missing)}; it {wanted}"
    return f"header {','.join(header)[:MAX_SHOWN]!r}: {wanted}"


def _line(where: str, header: tuple[str, ...], cells: list[str]) -> _Line:
    if len(cells) != len(header):
        raise TraceError(f"{where}: {len(cells)} values for {len(header)} columns ({','.join(header)})")
    return _Line(where, dict(zip(header, cells, strict=True)))


def _own_fields(line: _Line) -> dict[str, Any]:
    return {
        "arrival_ms": line.number("arrival_ms"),
        "category": line.cells["category"],
        "prompt_tokens": line.whole("prompt_tokens"),
        "output_tokens": line.whole("output_tokens"),
        "tpot_ratio": line.optional("tpot_slo_ratio"),
        "tpot_ms": line.optional("tpot_slo_ms"),
        "prompt_id": line.cells["prompt_id"],
    }


def _azure(lines: list[_Line], default: Mapping[str, Any]) -> list[TraceRequest]:
    times_ns = [_azure_ns(line) for line in lines]
    start_ns = min(times_ns)
    return [
        _request(line, _azure_fields(line, (time_ns - start_ns) / 1e6, default), _AZURE_FIELDS)
        for line, time_ns in zip(lines, times_ns, strict=True)
    ]


def _azure_fields(line: _Line, arrival_ms: float, default: Mapping[str, Any]) -> dict[str, Any]:
    prompt_tokens, output_tokens = line.whole("ContextTokens"), line.whole("GeneratedTokens")
    return {"arrival_ms": arrival_ms, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens, **default}


def _azure_ns(line: _Line) -> int:
    """Nanoseconds since 1970; the timestamps count 100 ns, one digit more than `datetime` reads."""
    parts = _AZURE_TIME.fullmatch(line.cells["TIMESTAMP"].strip())
    try:
        if parts is None:
            raise ValueError
        seconds = datetime.fromisoformat(parts[1]).replace(tzinfo=UTC).timestamp()
    except ValueError:  # also a 31st of February
        raise line.error("TIMESTAMP", "must be a time like 2023-11-16 18:17:03.9799600") from None
    return int(seconds) * 10**9 + int((parts[2] or "").ljust(9, "0"))


def _request(line: _Line, fields: Mapping[str, Any], columns: Mapping[str, str]) -> TraceRequest:
    try:
        return TraceRequest(**fields)
    except ValueError as error:
        words = str(error)
        for column, field in columns.items():
            words = words.replace(field, column)
        raise TraceError(f"{line.where}, {words}") from None
