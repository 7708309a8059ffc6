"""The page and API where people decide, watch, search, replay and stop. A process and listener of its own: no data path waits for it."""
