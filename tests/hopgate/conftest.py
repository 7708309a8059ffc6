"""Fixtures of tests of what remembers and waits."""

from __future__ import annotations

from tests.hopgate.places import cut as cut
from tests.hopgate.places import databases as databases
from tests.hopgate.places import place as place
