"""The flow format of mitmproxy 12."""

from typing import Final

VERSION: Final = 21
