from __future__ import annotations

import os
import subprocess
import sys

import pytest

from shared.openmp import SPIN_COUNT, spin_briefly

LOOK = "import sys, services.{}; assert 'torch' not in sys.modules; import os; print(os.environ['GOMP_SPINCOUNT'])"
UNSAID = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}


@pytest.mark.parametrize("service", ["drafter", "verifier"])
def test_services_say_it_before_torch_is_there(service: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK.format(service)], env=UNSAID, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == SPIN_COUNT


@pytest.mark.parametrize("choice", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_operator_has_chosen_stays(monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(choice, "7")
    spin_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == ("7" if choice == "GOMP_SPINCOUNT" else None)
