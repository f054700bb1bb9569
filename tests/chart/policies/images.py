"""Which images pods run: exact ones, and only such as the values name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.chart.renders import Render, default_values

_IMAGE = re.compile(r"^(?P<name>[^@]+?)(?::(?P<tag>[\w][\w.-]*))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$")


def is_an_exact_image(render: Render) -> list[str]:
    """A tag that is not `latest`, or a digest."""
    found = []
    for container in render.containers():
        image = _IMAGE.match(container.spec["image"])
        if image is None or not (image["digest"] or image["tag"]) or image["tag"] == "latest":
            found.append(f"{container.where}: image {container.spec['image']}")
    return found


def is_an_image_of_the_values(render: Render) -> list[str]:
    """Every part of an image's name can be set: registry, repository, tag, digest."""
    words = set(strings(render.values)) | set(strings(default_values()))
    found = []
    for container in render.containers():
        image = container.spec["image"]
        parts = re.split(r"[/:@]", image.replace("@sha256:", "@"))
        known = {part for word in words for part in re.split(r"[/:@]", word.replace("sha256:", ""))}
        foreign = [part for part in parts if part not in known and not _ours(part, render)]
        found += [f"{container.where}: {part!r} of image {image} is no value" for part in foreign]
    return found


def _ours(part: str, render: Render) -> bool:
    """Our images are called after their service, and their tag is the release's."""
    versions = {d["metadata"].get("labels", {}).get("app.kubernetes.io/version") for d in render.documents}
    versions |= {f"{version}{render.values['image']['cudaSuffix']}" for version in versions}
    return part in versions or part in {f"adaserve-{s}" for s in ("gateway", "drafter", "selector", "verifier")}


def strings(value: object) -> Iterator[str]:
    """Every scalar in a tree of values, as text."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif value is not None:
        yield str(value)


def pulls_once(render: Render) -> list[str]:
    """An exact image need not be asked for at each start."""
    always = [c for c in render.containers() if c.spec.get("imagePullPolicy") == "Always"]
    return [f"{container.where}: imagePullPolicy Always" for container in always]


def literal_images(template: str) -> list[str]:
    """Lines of a template that name an image without asking the values."""
    lines = [line.strip() for line in template.splitlines()]
    return [line for line in lines if re.match(r"-?\s*image:\s*[^{\s]", line) and "{{" not in line]


POLICIES = (is_an_exact_image, is_an_image_of_the_values, pulls_once)
