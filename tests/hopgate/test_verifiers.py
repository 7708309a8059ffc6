"""SCRAM verifiers of short tokens, found by the token's id."""

from __future__ import annotations

from pathlib import Path

import pytest

from hopgate.errors import Unauthenticated
from hopgate.tokens import scram_verifier, token_id
from tests.relays.world import World, configure


async def test_a_short_tokens_verifier_proves_that_token_and_whom_it_stands_for(tmp_path: Path) -> None:
    import base64

    async with World(configure(tmp_path, 1)) as gateway:
        identity = gateway.services.identity
        short = await identity.exchange(gateway.token(), peer="127.0.0.1", bind="10.0.0.0/8")
        text, principal = await identity.find_verifier(token_id(short.access_token), peer="10.1.1.1")
        salt = base64.b64decode(text.split("$")[1].split(":")[1])
        assert text == scram_verifier(short.access_token, salt=salt)
        assert principal == await identity.verify(short.access_token, peer="10.1.1.1")
        with pytest.raises(Unauthenticated):  # from elsewhere
            await identity.find_verifier(token_id(short.access_token), peer="127.0.0.1")
        for unknown in ("", "f" * 64, "x", "../" * 22):
            with pytest.raises(Unauthenticated):
                await identity.find_verifier(unknown, peer="10.1.1.1")
