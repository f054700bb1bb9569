"""Secrets where others see them."""

from __future__ import annotations

from tests.chart.plants.spoiling import Plant, Plants, container, document, in_container, setting, volume
from tests.chart.policies import secrets as policies
from tests.chart.renders import Render

REFERENCE = {"name": "ANY_NAME", "valueFrom": {"secretKeyRef": {"name": "some", "key": "key"}}}


def configured(text: str) -> Plant:
    return lambda render: document(render, "ConfigMap")["data"].update({"added.conf": text})


def all_of_it(render: Render) -> None:
    volume(render, "gateway", "secret")["secret"].pop("items")


def another_users(render: Render) -> None:
    volume(render, "gateway", "secret")["secret"]["items"].append({"key": "verifier-password", "path": "other"})


def for_everybody(render: Render) -> None:
    volume(render, "gateway", "secret")["secret"]["defaultMode"] = 0o444


PLANTS: Plants = [
    (policies.has_no_secret_in_its_environment, setting("OPENAI_API_KEY", "sk-123")),
    (policies.has_no_secret_in_its_environment, setting("ADASERVE_ADMIN_KEY", "0123456789abcdef")),
    (policies.has_no_secret_in_its_environment, lambda r: container(r)["env"].append(REFERENCE)),
    (policies.has_no_secret_in_its_environment, in_container(envFrom=[{"secretRef": {"name": "some"}}])),
    (policies.has_no_password_in_plain_sight, setting("WHERE", "redis://gateway:hunter2@redis:6379/0")),
    (policies.has_no_password_in_plain_sight, in_container(args=["--requirepass hunter2"])),
    (policies.has_no_password_in_plain_sight, configured("port 6379\nrequirepass hunter2\n")),
    (policies.sees_only_its_own_secrets, all_of_it),
    (policies.sees_only_its_own_secrets, another_users),
    (policies.keeps_secret_files_to_itself, for_everybody),
]
