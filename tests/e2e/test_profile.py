"""`adaserve profile` as its user sees it, on the embedded pair."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.effort import heavy

ADASERVE = (sys.executable, "-c", "from cli.main import app; app()")


@heavy
@pytest.mark.timeout(180)
def test_both_models_are_measured_and_fitted() -> None:
    done = subprocess.run([*ADASERVE, "profile", "--json"], capture_output=True, text=True, check=True)
    target, draft = json.loads(done.stdout)
    assert (target["role"], draft["role"]) == ("target", "draft")
    assert target["fitted"]["tokens"][0] == 1
    assert target["fitted"]["ms"][0] > draft["fitted"]["ms"][0] > 0.0
    assert {measured["rows"] for measured in target["passes"]} >= {1, 16, 64}
    assert all(level["level_ms"] > 0.0 for level in draft["levels"])


def test_a_missing_model_is_one_line() -> None:
    done = subprocess.run(
        [*ADASERVE, "profile", "--target", "./nowhere"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("adaserve: --target ./nowhere: no readable config")
