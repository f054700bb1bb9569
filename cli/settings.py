"""The launcher's environment: what it was given, divided among the services it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from shared.bus_url import CA_FILE, PASSWORD_FILE, mounted
from shared.errors import ConfigurationError
from shared.settings import PREFIX, ServiceSettings, known_variables, unknown_variables

SERVICES = ("gateway", "selector", "drafter", "verifier")
API_KEY = f"{PREFIX}API_KEY"  # what our own commands present as clients; no service reads it
REDIS_VARIABLES = (f"{PREFIX}REDIS_URL", "REDIS_URL")
REDIS_USERNAME = f"{PREFIX}REDIS_USERNAME"

# One thread per process: two stages that overlap with two threads each are three times slower than with one
# (measured), because the spinning threads of one stage take the cores of the other.
_RUNTIME = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}


def presented(api_key: str | None, tenant: str | None) -> dict[str, str]:
    """The headers that say who asks. Raises ConfigurationError for what no header can hold."""
    for name, value in (("the key", api_key), ("the tenant", tenant)):
        if value is not None and not (value.isascii() and value.isprintable()):
            raise ConfigurationError(f"{name} has characters other than printable ASCII; no header can hold it")
    named = {} if tenant is None else {"x-adaserve-tenant": tenant}
    return named | ({"authorization": f"Bearer {api_key}"} if api_key else {})


def inherited() -> dict[str, str]:
    """The environment this command was started with."""
    return dict(os.environ)


def redis_url(environment: Mapping[str, str]) -> str | None:
    """The Redis the operator named; None to find or start one."""
    return next((environment[name] for name in REDIS_VARIABLES if environment.get(name)), None)


def bus_url(environment: Mapping[str, str], given: str | None = None) -> str | None:
    """That Redis, or the one ``given``, as services reach it: a secret, with what the environment adds.

    Raises ConfigurationError for files without a secret, and for user, password or CA without a Redis.
    """
    url = given or redis_url(environment)
    files = {name: Path(environment[name]) for name in (PASSWORD_FILE, CA_FILE) if environment.get(name)}
    username = environment.get(REDIS_USERNAME) or None
    if url is None:
        if username or files:
            named = ", ".join(sorted([*files, *([REDIS_USERNAME] if username else [])]))
            raise ConfigurationError(f"{named} without REDIS_URL: there is no Redis to give it to")
        return None
    return mounted(url, username=username, password_file=files.get(PASSWORD_FILE), ca_file=files.get(CA_FILE))


def settings_of(service: str) -> type[ServiceSettings]:
    """The settings class of `services.<service>`; its module imports no model code."""
    module = import_module(f"services.{service}.settings")
    classes = (value for value in vars(module).values() if isinstance(value, type))
    return next(
        found for found in classes if issubclass(found, ServiceSettings) and found.__module__ == module.__name__
    )


def unread(environment: Mapping[str, str]) -> list[str]:
    """A clause for each `ADASERVE_*` variable that neither a service nor a command reads."""
    known = (known_variables(settings_of(service)) for service in SERVICES)
    return unknown_variables(environment, frozenset({API_KEY}).union(*known))


def divide(environment: Mapping[str, str], known: Mapping[str, frozenset[str]]) -> dict[str, dict[str, str]]:
    """For each service its environment: everything, less the `ADASERVE_*` variables of the others.

    `known` maps a service to the variables it reads. Raises ConfigurationError for a variable that none reads.
    """
    unknown = unknown_variables(environment, frozenset({API_KEY}).union(*known.values()))
    if unknown:
        raise ConfigurationError("; ".join(unknown))
    common = _RUNTIME | {name: value for name, value in environment.items() if not _is_ours(name)}
    return {
        service: common | {name: value for name, value in environment.items() if name.upper() in names}
        for service, names in known.items()
    }


def _is_ours(name: str) -> bool:
    return name.upper().startswith(PREFIX) or name in REDIS_VARIABLES
