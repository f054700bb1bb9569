"""The console at `/`: files of this package, read once, served to anybody; what they ask for needs a key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response

from services.gateway.errors import ApiError

CONSOLE = Path(__file__).parent / "console"
PAGE = "index.html"
PREFIX = "/console/"
METHODS = ["GET", "HEAD"]  # the server leaves the body of an answer to HEAD out
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}

# Own files only, no script or style inside the page, and nothing that makes markup of a string: a model's text, a
# tenant's name and an operator's reason are shown on a page that holds an admin key.
_CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "object-src 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "cache-control": "no-cache",  # asked for again each time, so that an upgrade shows at once
    "content-security-policy": _CONTENT_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """What one file is answered with."""

    body: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> StaticFile:
        body = path.read_bytes()
        return cls(body, TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    def response(self, known: str | None) -> Response:
        """``known``: the request's `If-None-Match`."""
        headers = {**HEADERS, "etag": self.etag}
        tags = () if known is None else [tag.strip().removeprefix("W/") for tag in known.split(",")]
        if self.etag in tags or "*" in tags:
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers={**headers, "content-type": self.media_type})


@cache
def console_files() -> Mapping[str, StaticFile]:
    """By name. Only these are ever served: no request's path is looked up on a disk."""
    return {path.name: StaticFile.read(path) for path in sorted(CONSOLE.iterdir()) if path.suffix in TYPES}


def add_console(app: FastAPI) -> None:
    """The page, and the files that it names."""
    files = console_files()

    @app.api_route("/", methods=METHODS, response_model=None)
    async def page(request: Request) -> Response:
        return files[PAGE].response(request.headers.get("if-none-match"))

    @app.api_route(PREFIX + "{file}", methods=METHODS, response_model=None)
    async def part(file: str, request: Request) -> Response:
        if file not in files:
            raise ApiError(404, f"file: the console has no {file[:64]!r}", code="not_found", param="file")
        return files[file].response(request.headers.get("if-none-match"))
