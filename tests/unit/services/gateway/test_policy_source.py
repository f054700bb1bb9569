"""The policy file while the gateway runs: taken when it is good and whole, refused when it is not."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.gateway import policy_source
from services.gateway.followed_file import FollowedFile, digest_of
from services.gateway.policy_source import PolicySource
from services.gateway.settings import secret
from services.gateway.tasks import end
from shared.errors import PolicyError
from shared.telemetry import Telemetry, configure
from tests.unit.services.gateway.conftest import Served

KEY = "a-long-enough-admin-key"
ADMIN = {"authorization": f"Bearer {KEY}"}


def text(tpot_ms: float, tail: str = "") -> str:
    return (
        f"classes:\n  chat: {{tpot_ms: {tpot_ms}}}\n"
        f"tenants:\n  default: {{classes: [chat], default: chat}}\n{tail}"
    )


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = configure("gateway", "test")
    yield made
    made.shutdown()


async def unrecorded(what: str, *, who: str, before: Any, after: Any) -> None:
    """Where nobody looks at what is recorded."""


class File:
    """A source on a file of its own."""

    secret: Callable[[str], str | None] | None = None

    def __init__(self, path: Path, telemetry: Telemetry, **environment: str) -> None:
        self.path = path
        path.write_text(text(50))
        self.telemetry = telemetry
        self.followed = FollowedFile(path)
        self.followed.read()
        self.source = PolicySource(
            path, None, telemetry, secret=self.secret or environment.get, record=unrecorded, clock=lambda: 7.0
        )

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.source.look(self.followed)

    @property
    def tpot_ms(self) -> float | None:
        assert self.source.current is not None
        return self.source.current.classes["chat"].tpot_ms

    def counted(self, name: str) -> float:
        lines = self.telemetry.prometheus().decode().splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0.0)

    @property
    def failures(self) -> float:
        return self.counted("adaserve_policy_reload_failures_total")


@pytest.fixture
def file(tmp_path: Path, telemetry: Telemetry) -> File:
    return File(tmp_path / "policy.yaml", telemetry)


def zeros(file: File, service_class: str) -> int:
    lines = file.telemetry.prometheus().decode().splitlines()
    counters = ("adaserve_slo_requests", "adaserve_slo_missed", "adaserve_goodput_tokens")
    told = [line for line in lines if line.startswith(counters) and f'slo_class="{service_class}"' in line]
    return len([line for line in told if line.endswith(" 0.0")])


def test_what_a_class_promises_is_counted_from_zero(file: File) -> None:
    assert (zeros(file, "chat"), zeros(file, "agents")) == (2 + 4 + 1, 0)
    file.path.write_text(text(50).replace("\ntenants", "\n  agents: {tpot_ms: 9}\ntenants"))
    file.look()
    assert zeros(file, "agents") == 2 + 4 + 1


def overwritten(path: Path, content: str) -> None:
    path.write_text(content)


def replaced(path: Path, content: str) -> None:
    other = path.with_suffix(".new")
    other.write_text(content)
    other.rename(path)


def written_with_its_old_times(path: Path, content: str) -> None:
    before = path.stat()
    path.write_text(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("write", [overwritten, replaced, written_with_its_old_times])
def test_a_changed_file_is_taken_at_the_second_look(file: File, write: Callable[[Path, str], None]) -> None:
    write(file.path, text(40))
    file.look(1)
    assert file.tpot_ms == 50
    file.look(1)
    assert file.tpot_ms == 40
    assert file.source.digest == digest_of(file.path.read_bytes())
    file.look(5)
    assert (file.counted("adaserve_policy_reloads_total"), file.failures) == (1, 0)


def test_a_config_map_is_followed_through_its_links(tmp_path: Path, telemetry: Telemetry) -> None:
    """..data -> ..first, policy.yaml -> ..data/policy.yaml; an update puts another ..data in its place."""
    for name, tpot_ms in (("..first", 50), ("..second", 40)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(text(tpot_ms))
    (tmp_path / "..data").symlink_to("..first")
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    source = PolicySource(tmp_path / "policy.yaml", None, telemetry, secret=lambda _: None, record=unrecorded)
    followed = FollowedFile(tmp_path / "policy.yaml")
    followed.read()
    (tmp_path / "..tmp").symlink_to("..second")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    shutil.rmtree(tmp_path / "..first")
    for _ in range(2):
        source.look(followed)
    assert source.current is not None
    assert source.current.classes["chat"].tpot_ms == 40


def test_a_bad_file_is_refused_with_its_line_and_the_last_good_one_stays(
    file: File, caplog: pytest.LogCaptureFixture
) -> None:
    good = file.source.digest
    file.path.write_text(text(-1))
    file.look(5)
    assert (file.tpot_ms, file.source.digest, file.failures) == (50, good, 1)
    about = file.source.about()
    assert f"{file.path}, line 2: classes.chat.tpot_ms='-1'" in about["error"]["message"]
    assert about["error"]["digest"] == digest_of(file.path.read_bytes())
    assert about["error"]["at_ms"] == 7000
    assert "line 2: classes.chat.tpot_ms='-1'" in caplog.text
    file.path.write_text(text(50))
    file.look()
    assert (file.source.about()["error"], file.source.digest) == (None, good)


def test_a_file_that_goes_away_is_an_error_and_its_return_none(file: File) -> None:
    file.path.unlink()
    file.look(3)
    assert (file.tpot_ms, file.failures) == (50, 1)
    assert "cannot be read (No such file" in file.source.about()["error"]["message"]
    file.path.write_text(text(30))
    file.look()
    assert (file.tpot_ms, file.source.about()["error"]) == (30, None)


def test_a_file_that_is_being_written_is_not_taken_by_half(file: File) -> None:
    whole = text(40, "  second: {classes: [chat], default: chat}\n")
    for length in range(0, len(whole), 7):
        file.path.write_text(whole[:length])
        file.look(1)
        assert file.tpot_ms == 50
    assert file.failures == 0
    file.path.write_text(whole)
    file.look()
    assert file.source.current is not None
    assert set(file.source.current.tenants) == {"default", "second"}


def test_a_key_that_is_not_there_is_an_error_of_the_file(tmp_path: Path, telemetry: Telemetry) -> None:
    file = File(tmp_path / "policy.yaml", telemetry, OLD_KEY="secret")
    rollout = (
        "rollout: {{share: 0, tenants: [default], otherwise: {{upstream: 'http://h/v1', api_key_env: {}}}}}\n"
    )
    file.path.write_text(text(40, rollout.format("NO_KEY")))
    file.look()
    words = "line 5: rollout.otherwise.api_key_env='NO_KEY': this environment variable of the gateway is not set"
    assert words in file.source.about()["error"]["message"]
    file.path.write_text(text(40, rollout.format("OLD_KEY")))
    file.look()
    assert (file.tpot_ms, file.source.about()["error"]) == (40, None)


def test_a_key_whose_file_is_bad_is_an_error_of_the_policy(
    tmp_path: Path, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = tmp_path / "key"
    monkeypatch.setenv("OLD_KEY_FILE", str(mounted))
    monkeypatch.setattr(File, "secret", staticmethod(secret))
    file = File(tmp_path / "policy.yaml", telemetry)
    otherwise = "{upstream: 'http://h/v1', api_key_env: OLD_KEY}"
    rollout = f"rollout: {{share: 0, tenants: [default], otherwise: {otherwise}}}\n"
    file.path.write_text(text(40, rollout))
    file.look()
    assert f"OLD_KEY_FILE={str(mounted)!r}: No such file" in file.source.about()["error"]["message"]
    assert file.tpot_ms == 50
    mounted.write_text("sk-old\n")
    file.path.write_text(text(60, rollout))
    file.look()
    assert (file.tpot_ms, file.source.about()["error"]) == (60, None)


async def test_changes_are_recorded(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_source, "PERIOD_S", 0.001)
    found: asyncio.Queue[tuple[str, str, Any, Any]] = asyncio.Queue()

    async def record(what: str, *, who: str, before: Any, after: Any) -> None:
        found.put_nowait((what, who, before, after))

    source = PolicySource(file.path, None, file.telemetry, secret=lambda _: None, record=record)
    first = source.digest
    watching = asyncio.create_task(source.watch())
    assert await found.get() == ("policy.load", "system", None, first)
    replaced(file.path, text(40))
    assert await found.get() == ("policy.reload", "system", first, digest_of(text(40).encode()))
    replaced(file.path, "classes: 3\n")
    what, _, before, after = await found.get()
    assert (what, before) == ("policy.refused", digest_of(text(40).encode()))
    assert "line 1: classes='3': must be a mapping" in after["message"]
    await end([watching])


def test_objectives_are_told(file: File) -> None:
    name = 'adaserve_slo_objective{slo_class="chat"}'
    lines = file.telemetry.prometheus().decode()
    assert name not in lines
    for objective, told in ((", objective: 0.9", 0.9), (", objective: 0.99", 0.99), ("", 0.0)):
        file.path.write_text(text(50).replace("tpot_ms: 50", f"tpot_ms: 50{objective}"))
        file.look()
        assert file.counted(name) == told


def test_a_bad_file_at_the_start_is_fatal(tmp_path: Path, telemetry: Telemetry) -> None:
    (tmp_path / "policy.yaml").write_text("classes: 3\n")
    with pytest.raises(PolicyError, match=r"line 1: classes='3': must be a mapping"):
        PolicySource(tmp_path / "policy.yaml", None, telemetry, secret=lambda _: None, record=unrecorded)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(policy_source, "PERIOD_S", 0.01)
    (tmp_path / "policy.yaml").write_text(text(5000))
    return {"policy_file": tmp_path / "policy.yaml", "admin_key": KEY}


async def test_no_request_fails_while_the_file_is_rewritten(served: Served, options: dict[str, Any]) -> None:
    """Good and bad, at once and piece by piece; every request is served under one of the good policies."""
    path: Path = options["policy_file"]
    done = asyncio.Event()
    goods = [5000 + n for n in range(40)]

    async def rewrite() -> None:
        for n, tpot_ms in itertools.cycle(enumerate(goods)):
            content = text(tpot_ms, f"  extra-{n}: {{classes: [chat], default: chat}}\n")
            if n % 3 == 0:
                replaced(path, content)
            elif n % 3 == 1:
                overwritten(path, "")
                for start in range(0, len(content), 20):
                    with path.open("a") as written:
                        written.write(content[start : start + 20])
                    await asyncio.sleep(0.001)
            else:
                overwritten(path, "classes: nonsense\n")
            await asyncio.sleep(0.05)
            if done.is_set():
                return

    async def ask(client: int) -> list[tuple[int, float | None]]:
        found = []
        for n in range(25):
            body = {"prompt": f"{client} {n}", "stream": False}
            answer = await served.http.post("/v1/completions", json=body)
            found.append((answer.status_code, answer.json().get("metrics", {}).get("slo", {})["tpot_target_ms"]))
        return found

    rewriting = asyncio.create_task(rewrite())
    answers = [answer for found in await asyncio.gather(*map(ask, range(16))) for answer in found]
    reloads = served.gateway.telemetry.prometheus().decode()
    done.set()
    await rewriting
    assert len(answers) == 400
    assert {status for status, _ in answers} == {200}
    seen = {tpot_ms for _, tpot_ms in answers}
    assert seen <= set(goods)
    assert len(seen) > 3
    assert "adaserve_policy_reload_failures_total" in reloads


async def test_admin_slo_tells_what_is_in_force(served: Served, options: dict[str, Any]) -> None:
    path: Path = options["policy_file"]
    schedules = (
        'schedules:\n  - {class: chat, cron: "* * * * *", ttft_ms: 900}\n'
        '  - {class: chat, tenant: other, cron: "* * * * *", tpot_ms: 70}\n'
    )
    content = text(60, f"  other: {{classes: [chat], default: chat}}\n{schedules}")
    overwritten(path, content)
    assert (await served.http.get("/admin/slo")).status_code == 401

    async def told() -> Any:
        return (await served.http.get("/admin/slo", headers=ADMIN)).json()

    while (await told())["policy"]["digest"] != digest_of(content.encode()):  # the test's own timeout ends it
        await asyncio.sleep(0.01)
    found = await told()
    assert (found["policy"]["file"], found["policy"]["error"]) == (str(path), None)
    promise = {"tpot": None, "tpot_ms": 60, "ttft_ms": 900, "tier": 2, "objective": None, "trace": None}
    assert found["classes"] == {"chat": promise}
    assert found["tenants"] == {"other": {"chat": {**promise, "tpot_ms": 70}}}
    assert found["schedules"] == [True, True]
    overwritten(path, "tenants: {}\n")
    while (error := (await told())["policy"]["error"]) is None:
        await asyncio.sleep(0.01)
    assert "classes: is required" in error["message"]
