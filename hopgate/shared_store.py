"""Opening the store that the configuration names: SQLite in the state directory, or a PostgreSQL database of several gateways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hopgate.errors import Misconfigured
from hopgate.sources import Sources
from hopgate.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from hopgate.config import Config
    from hopgate.store.index import Index


async def open_store(config: Config) -> Store:
    """Raises Misconfigured, Unavailable; neither quotes the password."""
    return await Store.open(await _place(config))


async def open_index(config: Config) -> Index:
    """The index of the ledgers, where the store is. Raises Misconfigured, Unavailable."""
    from hopgate.store.index import Index  # data paths have no use for it, and start 0.1 s sooner

    return await Index.open(await _place(config))


async def _place(config: Config) -> Path | str:
    if config.store is None:
        return config.state
    if any(reference.source == "secret" for reference in config.store.references):
        raise Misconfigured("store: a ${secret:…} lies in the store itself: use ${env:…}, ${file:…} or ${vault:…}")
    sources = Sources(None)
    try:
        return (await sources.render(config.store)).reveal()
    finally:
        await sources.close()
