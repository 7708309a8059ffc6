"""`hopgate replay`: a session as it was, in this terminal."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hopgate.cli.common import CONFIG, ConfigOption, Misuse, load, opened
from hopgate.cli.output import note, visible
from hopgate.errors import Denied
from hopgate.terminal_text import RESET

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hopgate.cli.replay_text import Piece

MAX_PAUSE: Final = 2.0  # seconds: nobody wants to watch somebody think


def replay(
    session: Annotated[str, typer.Argument(help="The session's id, or the start of it.", metavar="SESSION")],
    speed: Annotated[float, typer.Option("--speed", help="How many times as fast as it was.", metavar="N")] = 1.0,
    no_timing: Annotated[bool, typer.Option("--no-timing", help="All at once. So it is, too, where stdout is no terminal.")] = False,
    cast: Annotated[
        Path | None, typer.Option("--cast", help="Write its terminals there as asciicast v2 instead of showing anything.", metavar="FILE")
    ] = None,
    config: ConfigOption = CONFIG,
) -> None:
    """Show what happened in a session. Pauses are as they were, but for 2 seconds at most; Ctrl-C ends it."""
    if not 0 < speed < 1e6:
        raise Misuse("--speed must be more than 0")
    path = asyncio.run(_recording(config, session))
    try:
        if cast is not None:
            _export(path, cast)
        else:
            _show(path, 0.0 if no_timing or not sys.stdout.isatty() else speed)
    except OSError as error:
        raise Denied(f"{path}: {(error.strerror or str(error)).lower()}") from error


async def _recording(config: Path, session: str) -> Path:
    loaded = load(config)
    async with opened(loaded) as store:
        found = await store.find_session(session)
    if found is None:
        raise Denied(f"there is no session {visible(session)}")
    path = loaded.state / found.recording
    if not found.recording or not path.is_file():
        raise Denied(f"session {found.id} has no recording any more; `hopgate verify {found.id}` says why")
    return path


def _show(path: Path, speed: float) -> None:
    from hopgate.cli.replay_text import pieces
    from hopgate.flow_reading import BadFlow, read_flows

    try:
        play(pieces(read_flows(path)), speed)
    except BadFlow as error:
        raise Denied(f"{path}: {error}") from error
    except KeyboardInterrupt:
        note("")
    finally:
        if sys.stdout.isatty():
            sys.stdout.write(RESET)


def play(found: Iterable[Piece], speed: float) -> None:
    """Write the pieces to stdout, with their pauses divided by `speed`; 0 = without any."""
    before = 0.0
    for piece in found:
        pause = min(piece.at - before, MAX_PAUSE) if before else 0.0
        before = piece.at
        if speed and pause > 0:
            sys.stdout.flush()
            time.sleep(pause / speed)
        try:
            sys.stdout.write(piece.text)
        except UnicodeEncodeError:  # a terminal that is not UTF-8
            sys.stdout.write(piece.text.encode("ascii", "replace").decode())
    sys.stdout.flush()


def _export(path: Path, target: Path) -> None:
    from hopgate.cli.replay_text import cast_lines
    from hopgate.flow_reading import BadFlow, read_flows

    try:
        terminals = cast_lines(read_flows(path))
    except BadFlow as error:
        raise Denied(f"{path}: {error}") from error
    if not terminals:
        raise Denied("the session has no recording of a terminal")
    for index, lines in enumerate(terminals):
        name = target if index == 0 else target.with_stem(f"{target.stem}-{index + 1}")
        with name.open("xb") as file:  # nothing is overwritten
            name.chmod(0o600)
            file.writelines(lines)
        note(f"{name}: {len(lines)} lines; play it with asciinema")
