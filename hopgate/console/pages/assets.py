"""Style, scripts, fonts: ours and vendored, the same for everybody, so they may be kept."""

from __future__ import annotations

from functools import cache
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from hopgate.console.call import Call
from hopgate.console.render import HERE

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".woff2": "font/woff2",
    ".svg": "image/svg+xml",
}


async def static(call: Call) -> Response:
    found = _files().get(call.path("name"))
    if found is None:
        raise HTTPException(404)
    content, kind = found
    return Response(content, headers={"Content-Type": kind, "Cache-Control": "public, max-age=31536000, immutable"})


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """What is there, read once: a name that is not among these leads nowhere, whatever dots it has."""
    top = HERE / "static"
    paths = (path for path in top.rglob("*") if path.is_file() and path.suffix in _TYPES)
    return {path.relative_to(top).as_posix(): (path.read_bytes(), _TYPES[path.suffix]) for path in paths}
