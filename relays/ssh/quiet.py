"""Where Conch's log goes: nowhere. It logs payloads, passwords among them, and formats them even where nobody listens."""

from __future__ import annotations

from typing import Any, Final


class Quiet:
    """A twisted.logger.Logger that says nothing. Ours says what is worth saying, and quotes nobody."""

    def _nothing(self, *_: Any, **__: Any) -> None:
        pass

    debug = info = warn = error = critical = failure = emit = _nothing


QUIET: Final = Quiet()
