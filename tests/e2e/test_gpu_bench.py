"""`python -m bench.gpu` from end to end, on a small random model and a CPU: every section runs for real."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bench.gpu.__main__ import SECTIONS, main
from bench.gpu.size import TINY


@pytest.mark.timeout(600)
def test_every_section_of_the_gpu_bench_runs_on_a_cpu(tmp_path: Path) -> None:
    main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["failed"] == {}
    assert list(found["sections"]) == list(SECTIONS)
    figures = {
        name: {figure["name"]: figure for figure in section["figures"]}
        for name, section in found["sections"].items()
    }
    for section in figures.values():
        assert all(math.isfinite(figure["value"]) and figure["value"] >= 0 for figure in section.values())
    for name in ("decode", "verify", "draft"):
        times = [figure for figure in figures[name].values() if figure["unit"] == "ms"]
        assert times
        assert all(figure["value"] > 0 and figure["floor"] > 0 for figure in times)
    assert len([figure for figure in figures["verify"].values() if figure["unit"] == "ms"]) == 2 * len(
        TINY.verified
    )
    assert figures["flagship"]["different"]["met"]
    assert figures["flagship"]["different from generate"]["met"]
    assert figures["flagship"]["streams"]["value"] == 3 * TINY.prompts
