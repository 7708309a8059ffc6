"""Templates. Everything that is put into one is escaped; what came from outside goes through `shown` or `code` besides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hopgate.console.shown import body, code, plain, said, shown

HERE: Final = Path(str(files("hopgate.console")))


@cache
def _environment() -> Environment:
    environment = Environment(  # autoescape for every name: there are no templates but ours, and all are HTML
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        shown=shown,
        code=code,
        moment=moment,
        clock=clock,
        span=span,
        number=number,
        size=size,
        body=body,
        said=said,
        plain=plain,
        filename=filename,
    )
    environment.globals.update(static=static_url, parts=environment.get_template("_parts.html").module)
    return environment


def render(template: str, values: Mapping[str, Any]) -> str:
    return _environment().get_template(template).render(values)


def static_url(name: str) -> str:
    """Where a static file is, with what it holds: a new release is fetched, an old one never again."""
    return f"/static/{name}?v={_digest(name)}"


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12]


def moment(seconds: float | None) -> Markup:
    """A time as `<time>`, in UTC; a dash for none."""
    return _time(seconds, "%Y-%m-%d %H:%M:%S")


def clock(seconds: float | None) -> Markup:
    """The time of day alone, the whole in its title."""
    return _time(seconds, "%H:%M:%S")


@lru_cache(maxsize=4096)  # an inbox has a thousand of them, the same ones each time
def _time(seconds: float | None, form: str) -> Markup:
    if not seconds or not 0 < seconds < 2**38:
        return Markup('<span class="none">–</span>')
    when = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        when.isoformat(timespec="milliseconds"), when.strftime("%Y-%m-%d %H:%M:%S"), when.strftime(form)
    )


def span(seconds: float) -> str:
    """A length of time as people say it: `45 s`, `9 min`, `3 h`, `2 d`."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def number(value: int) -> str:
    """With thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u2009")


def size(value: int) -> str:
    """Bytes, roughly."""
    for length, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= length:
            return f"{value / length:.1f} {unit}"
    return f"{value} B"


def filename(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]
