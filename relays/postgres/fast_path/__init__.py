"""What a session repeats, without judging it again: see `core`. The compiled classes where they are built, else their twins."""

try:
    from relays.postgres.fast_path._core import Core, Entry
except ImportError:  # not compiled
    from relays.postgres.fast_path.core import Core, Entry

__all__ = ["Core", "Entry"]
