"""The four images side by side on this machine: `python -m tests.containers`, after `make images`; as root.

Each gets what the compose file gives it, with Redis' TLS: environment, secrets of its own, user, no capability, a
root that cannot be written. Redis is a container too, of Debian's redis-server, and lets in nobody but the ACL's
users. They share a network namespace of their own, so nothing listens on this machine. A streamed completion is
served, what the kernel says of each process is printed, and then each is asked to end. Exit code 1 where anything
is not so.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deploy.acl.__main__ import TEMPLATE
from deploy.docker import base, init
from deploy.docker.build import SERVICES, name_of
from deploy.docker.commands import output
from shared.topics import Keys
from tests.acl.authority import issue
from tests.containers.bundle import Container
from tests.containers.compose import environment_of
from tests.containers.pod import Pod, needed, status_of, until

REDIS = "localhost/adaserve-redis"
REDIS_PORT = "6379"
PLACE = f"127.0.0.1:{REDIS_PORT}/0"
PORTS = {"gateway": 8000, "drafter": 9101, "selector": 9102, "verifier": 9103}
ORDER = ("gateway", "verifier", "drafter", "selector")
INSTALLERS = "pip pip3 apt apt-get dpkg perl gcc cc ld make"
DRAIN_S = 45.0


def main() -> None:
    """Prints what was seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.containers", description="the four images side by side")
    parser.add_argument("--registry", default="localhost", help="first part of the images' names")
    parser.add_argument("--runtime", default="runc", help="runs OCI bundles; crun where cgroups are not mixed")
    given = parser.parse_args()
    needed("buildah", given.runtime, "nsenter", "openssl")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ada-containers-")))
        pod = Pod(folder, given.runtime)
        stack.callback(pod.close)
        faults = seen(pod, given.registry)
    sys.exit("\n".join(faults) or 0)


def seen(pod: Pod, registry: str) -> list[str]:
    """What is not as it should be."""
    secrets = pod.folder / "secrets"
    init.fill(secrets, TEMPLATE, {})
    authority = prepared(pod.folder)
    _start_redis(pod, secrets, authority)
    for service in ORDER:
        _start(pod, service, name_of(registry, service, "cpu"), secrets, authority)
    for service in ORDER:
        _await(pod, service)
    faults = [fault for service in ("redis", *ORDER) for fault in _restricted(pod, service)]
    faults += [fault for service in ORDER for fault in _bare(pod, service)]
    faults += _complete(pod, secrets) + _refusals(pod, secrets, authority) + _guarded(pod, secrets, authority)
    for service in ORDER:
        code = pod.end(service, DRAIN_S)
        say(f"{service}: exit code {code} after SIGTERM")
        faults += [f"{service} ended with {code}:\n{pod.log(service)[-1000:]}"] if code else []
    return faults


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def prepared(folder: Path) -> Path:
    """Folder with a CA, Redis' certificate and a file of names."""
    tls = folder / "tls"
    tls.mkdir()
    issue(tls, "DNS:redis")
    (tls / "server.key").chmod(0o444)  # for a user that is not root, in a folder of this run
    (folder / "hosts").write_text("127.0.0.1 localhost redis jaeger\n")
    folder.chmod(0o755)
    return tls


def _start_redis(pod: Pod, secrets: Path, tls: Path) -> None:
    if REDIS not in output("buildah", "images", "--format", "{{.Name}}").split():
        base.make(REDIS, ("redis-server",))
    root, _, _ = pod.image(REDIS)
    words = [
        "redis-server", "--port", "0", "--tls-port", REDIS_PORT, "--tls-cert-file", "/run/tls/server.crt",
        "--tls-key-file", "/run/tls/server.key", "--tls-ca-cert-file", "/run/tls/ca.crt", "--tls-auth-clients",
        "no", "--aclfile", "/run/users/users.acl", "--appendonly", "yes", "--appendfsync", "everysec",
        "--maxmemory-policy", "noeviction", "--dir", "/data", "--save", "",
    ]  # fmt: skip
    files = {"/run/tls": tls, "/run/users": secrets / "redis"}
    environment = {"PATH": "/usr/bin:/bin"}
    writable = ("/data",)
    pod.start(
        Container(name="redis", root=root, words=words, environment=environment, seen=files, writable=writable)
    )


def _start(pod: Pod, service: str, image: str, secrets: Path, tls: Path) -> None:
    root, entry, own = pod.image(image)
    files = {
        "/run/secrets/adaserve": secrets / service,
        "/run/secrets/adaserve-redis-ca": tls,
        "/etc/hosts": pod.folder / "hosts",
    }
    environment = {**own, **environment_of(service), "OTEL_SDK_DISABLED": "true"}
    pod.start(Container(name=service, root=root, words=entry, environment=environment, seen=files))
    say(f"{service}: {image}, {' '.join(entry)}")


def _await(pod: Pod, service: str) -> None:
    url = f"http://127.0.0.1:{PORTS[service]}/ready"
    asked = f"import urllib.request as u; u.urlopen({url!r}, timeout=3)"
    until(
        lambda: pod.beside(sys.executable, "-c", asked).returncode == 0,
        lambda: "\n".join(f"{service} is not ready; {one}:\n{pod.log(one)[-1500:]}" for one in ORDER),
        patience_s=180.0,
    )


def _restricted(pod: Pod, service: str) -> list[str]:
    """Whether its process has what it should not have."""
    about = status_of(pod.pid(service))
    flags = {name: about[name] for name in ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs")}
    tried = pod.inside(service, "sh", "-c", "touch /opt/x /usr/x /run/secrets/x /etc/x; true").stderr
    refused = tried.count("Read-only file system") + tried.count("Permission denied") + tried.count("No such file")
    read_only = "ro" in next(
        line.split()[5] for line in Path(f"/proc/{pod.pid(service)}/mountinfo").read_text().splitlines()
        if line.split()[4] == "/"
    ).split(",")  # fmt: skip
    say(f"{service}: {' '.join(f'{name}={value.split()[0]}' for name, value in flags.items())} root "
        f"{'read-only' if read_only else 'WRITABLE'}, {refused} of 4 writes refused")  # fmt: skip
    good = about["Uid"].split() == ["10001"] * 4 and int(about["CapEff"], 16) == 0 and about["NoNewPrivs"] == "1"
    return [] if good and read_only and refused == 4 else [f"{service} has too many rights: {flags}, {tried}"]


def _bare(pod: Pod, service: str) -> list[str]:
    """Whether a program or a module is left that could install or build something."""
    code = "import importlib.util as u; print(*(name for name in ('pip', 'ensurepip') if u.find_spec(name)))"
    looked = f"for one in {INSTALLERS}; do command -v $one; done"  # a bare shell takes one name at a time
    tried = pod.inside(service, "sh", "-c", f'{looked}; python -c "{code}"')
    found = tried.stdout.split()
    say(f"{service}: of what installs or builds it has {', '.join(found) or 'nothing'}")
    return [f"{service} has {found}, {tried.stderr}"] if found or tried.stderr else []


def _complete(pod: Pod, secrets: Path) -> list[str]:
    url, key = f"http://127.0.0.1:{PORTS['gateway']}", str(secrets / "client" / "api-key")
    done = pod.beside(sys.executable, "-m", "tests.containers.client", url, key)
    if done.returncode:
        return [f"no completion: {done.stderr[-2000:]}"]
    told: Mapping[str, Any] = json.loads(done.stdout)
    say(f"completion: {json.dumps({name: value for name, value in told.items() if name != 'text'})}")
    say("\n".join(f"    {line}" for line in str(told["text"]).splitlines()[:6]))
    whole = told["done"] and told["tokens"] == 64
    return [] if whole else [f"the stream is not whole: {told}"]


def _asked(pod: Pod, url: str, *words: str) -> str:
    """What Redis answers to a client in the containers' network."""
    code = (
        "import sys, redis; c = redis.Redis.from_url(sys.argv[1], protocol=2)\n"
        "try: print(c.execute_command(*sys.argv[2:]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    return pod.beside(sys.executable, "-c", code, url, *words).stdout.strip()


def _url(secrets: Path, tls: Path, user: str) -> str:
    """Of Redis, for a user and over TLS; its certificate is for a name that this machine does not know."""
    password = (secrets / user / "redis" / "password").read_text().strip()
    return f"rediss://{user}:{password}@{PLACE}?ssl_ca_certs={tls / 'ca.crt'}&ssl_check_hostname=false"


def _refusals(pod: Pod, secrets: Path, tls: Path) -> list[str]:
    """What services were refused: nothing."""
    log = _asked(pod, _url(secrets, tls, "operator"), "ACL", "LOG")
    users = [user for user in SERVICES if f"'{user}'" in log]
    say(f"Redis: of the services, its log of refusals names {users or 'none'}")
    said = [service for service in ORDER if "permission" in pod.log(service)]
    return [f"refused: {log}"] if users or said or "Error" in log else []


def _guarded(pod: Pod, secrets: Path, tls: Path) -> list[str]:
    """Whether Redis lets in anybody else, or somebody do more."""
    answers = {
        "without TLS": _asked(pod, f"redis://{PLACE}", "PING"),
        "without a user": _asked(
            pod, f"rediss://{PLACE}?ssl_ca_certs={tls / 'ca.crt'}&ssl_check_hostname=false", "PING"
        ),
        "asked as drafter for all keys": _asked(pod, _url(secrets, tls, "drafter"), "KEYS", "*"),
        "asked as drafter for API keys": _asked(
            pod, _url(secrets, tls, "drafter"), "HGETALL", Keys("default").api_keys
        ),
    }
    for who, answer in answers.items():
        say(f"Redis {who}: {answer}")
    return [f"Redis {who}: {answer}" for who, answer in answers.items() if "Error" not in answer]


if __name__ == "__main__":
    main()
