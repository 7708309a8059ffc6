"""What a session repeats, without judging it again: see `core`. The compiled classes where they are built, else their twins."""

try:
    from relays.postgres.fast_path._core import Core, Entry, Needles, holds_byte
except ImportError:  # not compiled
    from relays.postgres.fast_path.core import Core, Entry, Needles, holds_byte

__all__ = ["Core", "Entry", "Needles", "holds_byte"]
