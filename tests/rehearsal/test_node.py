"""The rehearsal's node itself: what a pod sees there, and how it comes and goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.rehearsal import node

WHY = node.obstacle()
pytestmark = pytest.mark.skipif(WHY is not None, reason=f"no node here: {WHY}")


def on_a_node(case: str, folder: Path, timeout_s: float = 90.0) -> Any:
    command = node.command([sys.executable, "-m", "tests.rehearsal.inside", case, str(folder)])
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_pod_sees_what_was_rendered_and_a_rollout_leaves_nobody_unanswered(tmp_path: Path) -> None:
    seen = on_a_node("whole_life", tmp_path)
    told = seen["told"]
    assert (told["pid"], told["uid"], told["gid"], told["groups"]) == (1, 10001, 10001, [10001])
    assert told["processes"] == 1
    assert (int(told["capabilities"], 16), told["no_new_privs"]) == (0, "1")
    assert told["secret"] == "hunter2"  # of mode 0400, which fsGroup opens
    assert (told["root"], told["secrets"], told["tmp"]) == ("OSError", "OSError", "done")
    name = told["environment"]["NAME"]
    assert told["argv"] == [f"--name={name}", "$(NAME)", "$(NOBODY)"]
    assert told["environment"]["URL"] == "http://sample.rehearsed.svc/hello"
    assert {key for key in told["environment"] if key.isupper()} == {
        *("PATH", "PYTHONUNBUFFERED", "PYTHONPYCACHEPREFIX", "HOSTNAME", "LC_CTYPE"),
        *("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "NAME", "IP", "GREETING", "URL"),
    }
    assert "sample.rehearsed.svc.cluster.local" in told["hosts"]
    assert seen["exits"] == [0, 0, 0, 0]
    assert seen["notes"] == []
    assert {name.split("-")[1] for name in seen["asked"]} == {"r0", "r1"}


def test_who_does_not_end_is_killed_when_its_grace_is_over_and_that_is_told(tmp_path: Path) -> None:
    seen = on_a_node("stubborn", tmp_path)
    assert seen["exits"] == {"sample": 137}
    assert 2.5 < seen["took_s"] < 6
    failed_hook, killed = seen["notes"]
    assert "sample preStop ended with 1" in failed_hook
    assert "outlived its grace period" in killed
