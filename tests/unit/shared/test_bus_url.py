"""The URL of Redis with what is mounted put into it."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from shared.bus_url import completed, secret_in
from shared.errors import ConfigurationError


def parsed(url: str) -> dict[str, object]:
    """What redis-py makes of it."""
    return dict(Redis.from_url(url).connection_pool.connection_kwargs)


def test_nothing_given_leaves_the_url_alone() -> None:
    url = "rediss://h:6380/2?ssl_cert_reqs=required"
    assert completed(url, username=None, password=None, ca_file=None) == url


@pytest.mark.parametrize("password", ["plain", "a/b?c#d@e:f %41", "ü", "x" * 200])
def test_redis_py_reads_back_what_was_put_in(password: str) -> None:
    told = parsed(
        completed("rediss://h:6380/2", username="drafter", password=password, ca_file=Path("/run/ca dir/ca.crt"))
    )
    assert (told["host"], told["port"], told["db"]) == ("h", 6380, 2)
    assert (told["username"], told["password"]) == ("drafter", password)
    assert told["ssl_ca_certs"] == "/run/ca dir/ca.crt"


def test_a_socket_takes_them_too() -> None:
    told = parsed(completed("unix:///run/r.sock", username="selector", password="s", ca_file=None))
    assert (told["path"], told["username"], told["password"]) == ("/run/r.sock", "selector", "s")


def test_a_password_twice_is_refused_without_showing_either() -> None:
    with pytest.raises(ConfigurationError, match="not both") as caught:
        completed("redis://u:hunter2@h", username=None, password="hunter3", ca_file=None)
    assert "hunter" not in str(caught.value)


def test_a_ca_without_tls_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="rediss://"):
        completed("redis://h", username=None, password=None, ca_file=Path("/ca"))


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "one line"), (b"\n", "one line"), (b"a\nb\n", "one line"), (b"x" * 5_000, "4096"), (b"\xff", "UTF-8")],
)
def test_a_file_that_is_no_secret_is_refused_by_name(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"^A_FILE=.*{why}"):
        secret_in(tmp_path / "p", "A_FILE")


def test_the_end_of_the_line_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b" s3cret \r\n")
    assert secret_in(tmp_path / "p", "A_FILE") == " s3cret "
    with pytest.raises(ConfigurationError, match=r"A_FILE=.*No such file"):
        secret_in(tmp_path / "none", "A_FILE")
