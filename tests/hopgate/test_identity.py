"""Token to principal through everything: providers, the local issuer, short tokens, revocation, the cache."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from jwt.utils import base64url_decode, base64url_encode

from hopgate import identity as identity_module
from hopgate.errors import Denied, Expired, HopgateError, Misconfigured, Unauthenticated, Unavailable
from hopgate.identity import Identity
from hopgate.issuers import MAX_TOKEN
from hopgate.jwks import COOL_DOWN
from hopgate.tokens import issue_token, key_path, token_id
from tests.doubles import Answer, Clock, MemoryTokens, Provider, Revoked, jwk, make_config, sign

PEER = "127.0.0.1"
LOCAL = {"name": "local", "local": True}


class Gate:
    """An Identity with all its surroundings in hand."""

    def __init__(self, directory: Path, provider: Provider, **corp: Any) -> None:
        issuers = [{"name": "corp", "issuer": provider.issuer, "audience": "hopgate", **corp}, LOCAL]
        self.config = make_config(directory, identity={"issuers": issuers})
        self.clock = provider.clock
        self.provider = provider
        self.store = MemoryTokens()
        self.revoked = Revoked()
        self.identity = Identity(self.config, self.store, self.revoked, clock=self.clock)

    def issue(self, subject: str = "bob", ttl: float = 3600, **more: Any) -> str:
        return issue_token(self.config, subject, ["dba"], ttl, now=self.clock(), **more)

    def let_cool_down(self) -> None:
        """Make the next unknown key cause a fetch, as if 30 s had passed."""
        for issuer in self.identity._issuers.values():
            issuer.keys._tried -= COOL_DOWN


@asynccontextmanager
async def gate(directory: Path, **corp: Any) -> AsyncIterator[Gate]:
    with Provider(clock=Clock()) as provider:
        made = Gate(directory, provider, **corp)
        await made.identity.start(follow=False)
        try:
            yield made
        finally:
            await made.identity.close()


async def refused(identity: Identity, token: str, words: str, error: type[HopgateError] = Unauthenticated, peer: str = PEER) -> None:
    assert identity.cached_principal(token, peer) is None
    with pytest.raises(error, match=words) as caught:
        await identity.verify(token, peer=peer)
    assert type(caught.value) is error
    for part in token.split("."):
        assert len(part) < 8 or part not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_a_provider_s_token(tmp_path: Path) -> None:
    async with gate(tmp_path, groups_claim="realm.roles", groups=["d*"]) as g:
        token = g.provider.token("alice", realm={"roles": ["dba", "ops"]}, azp="console", run="r9")
        assert g.identity.cached_principal(token, PEER) is None
        principal = await g.identity.verify(token, peer=PEER)
        assert (principal.issuer, principal.subject, str(principal)) == ("corp", "alice", "corp:alice")
        assert (sorted(principal.groups), sorted(principal.actors), principal.run) == (["dba"], ["console"], "r9")
        assert (principal.token_id, principal.expires_at) == (token_id(token), g.clock() + 3600)
        assert g.identity.cached_principal(token, PEER) is principal
        assert await g.identity.verify(token, peer=PEER) is principal
        assert token not in repr(principal)


async def test_what_is_no_token_at_all(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        for token, words in [
            ("", "no token"),
            ("x" * (MAX_TOKEN + 1), "longer than 16 KB"),
            ("tökén", "malformed"),
            ("a\nb", "malformed"),
            ("\udcff", "malformed"),
            ("hgt_short", "malformed"),
            ("hgt_" + "a" * 43, "not known"),
            ("password", "malformed"),
        ]:
            await refused(g.identity, token, words)
        assert g.provider.requests == []


async def test_a_token_of_the_largest_size_is_taken(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        token = g.provider.token(padding="x" * 11_500)
        assert MAX_TOKEN - 1000 < len(token) <= MAX_TOKEN
        await g.identity.verify(token, peer=PEER)
        await refused(g.identity, g.provider.token(padding="x" * 13_000), "longer than 16 KB")


async def test_issuers_that_are_not_configured_cost_no_request(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        for issuer in ("https://evil.example", "corp", "local", g.provider.issuer + "/", "hopgate:local:x"):
            await refused(g.identity, g.provider.token(iss=issuer), "issuer is not one that this gateway accepts")
        assert g.provider.requests == []


async def test_one_issuer_cannot_sign_for_another(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        claims = {**g.provider.claims(), "iss": "hopgate:local"}
        await refused(g.identity, sign(claims, "EdDSA", "k0"), "does not publish")
        await refused(g.identity, sign(claims, "RS256", "k0"), "algorithm is not one of EdDSA")
        local = g.issue()
        await g.identity.verify(local, peer=PEER)


async def test_the_end_of_a_token(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        tokens = [g.provider.token(), g.issue()]
        for token in tokens:
            await g.identity.verify(token, peer=PEER)
        g.clock.pass_(3629)
        for token in tokens:
            assert g.identity.cached_principal(token, PEER) is not None  # clocks may differ by 30 s
        g.clock.pass_(1)
        for token in tokens:
            await refused(g.identity, token, "expired", Expired)


async def test_narrowed_by_require(tmp_path: Path) -> None:
    async with gate(tmp_path, require={"org.owner": ["acme", "acme-*"]}) as g:
        await g.identity.verify(g.provider.token(org={"owner": "acme-labs"}), peer=PEER)
        await refused(g.identity, g.provider.token(org={"owner": "evil"}), "org.owner is not one that this gateway accepts")
        await refused(g.identity, g.provider.token(), "org.owner is not one")


async def test_entra_overage(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        await refused(g.identity, g.provider.token(_claim_names={"groups": "src1"}), "Entra overage")


# --- keys that change, providers that are away


async def test_rotation(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        old = g.provider.token("old")
        await g.identity.verify(old, peer=PEER)
        g.provider.rotate()
        g.let_cool_down()
        assert (await g.identity.verify(g.provider.token("new"), peer=PEER)).subject == "new"
        assert g.identity.cached_principal(old, PEER) is not None
        assert g.provider.fetches() == 2


async def test_a_key_that_the_provider_withdraws_takes_its_tokens_along(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        old = g.provider.token("old")
        await g.identity.verify(old, peer=PEER)
        g.provider.rotate(keep=False)
        g.let_cool_down()
        await g.identity.verify(g.provider.token("new"), peer=PEER)
        await refused(g.identity, old, "does not publish")


async def test_unknown_keys_do_not_flood_the_provider(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        await g.identity.verify(g.provider.token(), peer=PEER)
        forged = [sign(g.provider.claims(), "RS256", f"forged-{number}") for number in range(30)]
        results = await asyncio.gather(*(g.identity.verify(token, peer=PEER) for token in forged), return_exceptions=True)
        assert all(type(each) is Unauthenticated for each in results)
        assert g.provider.fetches() == 1


async def test_the_provider_is_down(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        await g.identity.verify(g.provider.token(), peer=PEER)
        g.provider.cut = True
        g.let_cool_down()
        known = await g.identity.verify(g.provider.token("known", jti="x"), peer=PEER)
        assert known.subject == "known"
        g.provider.rotate()
        await refused(g.identity, g.provider.token(), "issuer corp: .* provider does not answer: it cannot be reached", Unavailable)
        assert list(g.identity.problems) == ["issuer corp: it cannot be reached (RemoteProtocolError)"]
        await g.identity.verify(g.issue(), peer=PEER)  # nobody else is affected
        g.provider.cut = False
        g.let_cool_down()
        await g.identity.verify(g.provider.token(), peer=PEER)
        assert not g.identity.problems


async def test_a_provider_that_is_down_from_the_start_keeps_nobody_else_out(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        g.provider.cut = True
        await refused(g.identity, g.provider.token(), "does not answer", Unavailable)
        await g.identity.verify(g.issue(), peer=PEER)


async def test_a_provider_with_an_oversized_or_redirected_key_set(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        g.provider.answers["/keys"] = Answer(body=b" " * 300_000)
        await refused(g.identity, g.provider.token(), "larger than 256 KiB", Unavailable)
        g.provider.answers["/keys"] = Answer(status=302, headers={"Location": "http://localhost:1/"})
        g.let_cool_down()
        await refused(g.identity, g.provider.token(), "redirects to another host", Unavailable)


async def test_keys_are_followed_in_the_background(tmp_path: Path) -> None:
    with Provider(clock=Clock()) as provider:
        g = Gate(tmp_path, provider)
        await g.identity.start()
        await asyncio.to_thread(provider.asked.wait, 10)
        assert provider.requests
        await g.identity.close()


async def test_keys_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/ci.json").write_text(json.dumps({"keys": [jwk("RS256", "k0")]}))
    async with gate(tmp_path, jwks="file:keys/ci.json") as g:
        await g.identity.verify(g.provider.token(), peer=PEER)
        assert g.provider.requests == []


# --- the local issuer


async def test_a_replaced_local_key_ends_its_tokens(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        old = g.issue()
        short = await g.identity.exchange(old, peer=PEER)
        await g.identity.verify(short.access_token, peer=PEER)
        key_path(g.config.state).unlink()
        new = g.issue("carol")
        g.let_cool_down()
        assert (await g.identity.verify(new, peer=PEER)).subject == "carol"
        await refused(g.identity, old, "does not publish")
        await refused(g.identity, short.access_token, "key was replaced")


async def test_a_local_key_that_others_may_read_stops_the_start(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        key_path(g.config.state).chmod(0o644)
        again = Identity(g.config, g.store, g.revoked, clock=g.clock)
        with pytest.raises(Misconfigured, match="chmod 600"):
            await again.start(follow=False)
        await again.close()


async def test_a_token_bound_to_its_peer(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        token = g.issue(peer="10.1.0.0/16")
        for _ in range(2):  # the second time from the cache
            assert (await g.identity.verify(token, peer="10.1.2.3")).peer == "10.1.0.0/16"
            assert g.identity.cached_principal(token, "::ffff:10.1.2.3") is not None
            for elsewhere in ("10.2.0.1", "127.0.0.1", "", "fd00::1"):
                await refused(g.identity, token, "bound to another peer", peer=elsewhere)


# --- revocation


async def test_revocation_by_token_and_by_jti(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        for revoke_after_verification in (True, False):
            for index in range(2):
                token = g.provider.token(jti=f"id-{index}-{revoke_after_verification}")
                if revoke_after_verification:
                    await g.identity.verify(token, peer=PEER)
                g.revoked.ids.add([token_id(token), f"id-{index}-{revoke_after_verification}"][index])
                await refused(g.identity, token, "was revoked")


async def test_a_revoked_token_with_its_signature_written_otherwise_is_revoked(tmp_path: Path) -> None:
    with Provider(clock=Clock(), algorithm="ES256") as provider:
        g = Gate(tmp_path, provider)
        await g.identity.start(follow=False)
        token = provider.token()
        head, _, signature = token.rpartition(".")
        raw = base64url_decode(signature)
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256: (r, n-s) is as good as (r, s)
        other = f"{head}.{base64url_encode(raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)).decode()}"
        first, second = [await g.identity.verify(each, peer=PEER) for each in (token, other)]
        assert token != other
        assert first.token_id == second.token_id == token_id(token)
        g.revoked.ids.add(token_id(token))
        for each in (token, other):
            await refused(g.identity, each, "was revoked")
        for padded in (token + "==", f"{token.replace('.', '=.', 1)}"):
            await refused(g.identity, padded, "malformed")
        await g.identity.close()


async def test_when_revocations_are_unknown_nobody_passes(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        token = g.provider.token()
        await g.identity.verify(token, peer=PEER)
        g.revoked.down = True
        with pytest.raises(Unavailable):
            g.identity.cached_principal(token, PEER)
        for each in (token, g.provider.token("other")):
            with pytest.raises(Unavailable):
                await g.identity.verify(each, peer=PEER)


# --- short tokens


async def test_exchange(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        token = g.provider.token("alice", groups=["dba"], run="r1", azp="app")
        g.clock.pass_(600.5)
        short = await g.identity.exchange(token, peer=PEER)
        assert short.access_token.startswith("hgt_")
        assert len(short.access_token) <= 60
        assert short.expires_in == 2999
        principal = await g.identity.verify(short.access_token, peer=PEER)
        assert (str(principal), sorted(principal.groups), principal.run, sorted(principal.actors)) == ("corp:alice", ["dba"], "r1", ["app"])
        assert principal.token_id == token_id(short.access_token)
        assert g.identity.cached_principal(short.access_token, PEER) is principal
        g.clock.pass_(3030)
        await refused(g.identity, short.access_token, "expired", Expired)


async def test_neither_token_is_stored_nor_shown(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        token = g.provider.token()
        short = await g.identity.exchange(token, peer=PEER)
        rows = repr(g.store.rows)
        assert short.access_token not in rows + repr(short)
        assert token not in rows
        assert token.split(".")[2] not in rows
        [row] = g.store.rows.values()
        assert row.digest == token_id(short.access_token)
        assert row.scram_verifier.startswith("SCRAM-SHA-256$4096:")


async def test_another_process_knows_a_short_token(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        short = await g.identity.exchange(g.provider.token(), peer=PEER)
        other = Identity(g.config, g.store, g.revoked, clock=g.clock)
        await other.start(follow=False)
        g.provider.cut = True
        assert (await other.verify(short.access_token, peer=PEER)).subject == "alice"
        await other.close()


async def test_revoking_the_long_token_ends_the_short_one(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        for more in ({}, {"jti": "id-1"}):
            token = g.provider.token(**more)
            short = await g.identity.exchange(token, peer=PEER)
            principal = await g.identity.verify(short.access_token, peer=PEER)
            # sessions look at the principal alone: it must carry something that the revocation of the long token names
            assert principal.claims["jti"] == more.get("jti", token_id(token))
            g.revoked.ids.add(token_id(token))
            await refused(g.identity, short.access_token, "was revoked")


async def test_a_short_token_is_narrowed_by_the_configuration_of_its_use(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        short = await g.identity.exchange(g.provider.token(groups=["dba", "ops"]), peer=PEER)
        for corp, words in (
            ({"name": "renamed"}, "not accepted"),
            ({"require": {"team": "x"}}, "team is not one"),
        ):
            stricter = Gate(tmp_path, g.provider, **corp)
            other = Identity(stricter.config, g.store, g.revoked, clock=g.clock)
            await other.start(follow=False)
            await refused(other, short.access_token, words)
            await other.close()


async def test_a_short_token_keeps_its_peer_or_gets_one(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        kept = await g.identity.exchange(g.issue(peer="10.1.0.0/16"), peer="10.1.0.1")
        bound = await g.identity.exchange(g.provider.token(), peer=PEER, bind="10.1.0.0/16")
        for short in (kept, bound):
            assert (await g.identity.verify(short.access_token, peer="10.1.9.9")).peer == "10.1.0.0/16"
            await refused(g.identity, short.access_token, "bound to another peer")
        with pytest.raises(Denied, match="bound to a peer already"):
            await g.identity.exchange(g.issue(peer="10.1.0.0/16"), peer="10.1.0.1", bind="0.0.0.0/0")
        with pytest.raises(Misconfigured, match="address or network"):
            await g.identity.exchange(g.provider.token(), peer=PEER, bind="anywhere")
        assert len(g.store.rows) == 2


async def test_what_is_not_exchanged(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        short = await g.identity.exchange(g.provider.token(), peer=PEER)
        before = len(g.store.rows)
        expired = g.provider.token("late")
        await g.identity.verify(expired, peer=PEER)
        g.revoked.locked.add("corp:mallory")
        for token, error, words in [
            (short.access_token, Unauthenticated, "cannot be exchanged again"),
            (g.provider.token("mallory"), Denied, "mallory is locked"),
            (g.provider.token(aud="other"), Unauthenticated, "another audience"),
            ("nonsense", Unauthenticated, "malformed"),
        ]:
            with pytest.raises(error, match=words):
                await g.identity.exchange(token, peer=PEER)
        g.clock.pass_(3601)
        with pytest.raises(Expired):  # within the 30 s of grace: still good, but nothing is made of it any more
            await g.identity.exchange(expired, peer=PEER)
        assert len(g.store.rows) == before


async def test_claims_too_deep_for_the_store_are_not_exchanged(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    async with gate(tmp_path) as g:
        with pytest.raises(Unauthenticated, match="nested too deep"):
            await g.identity.exchange(g.provider.token(deep=deep), peer=PEER)


async def test_closing_gives_up_a_fetch_that_is_under_way(tmp_path: Path) -> None:
    with Provider(clock=Clock()) as provider:
        provider.answers["/keys"] = Answer(body=b"{", headers={"Content-Length": "1000"})
        g = Gate(tmp_path, provider)
        await g.identity.start()
        await asyncio.to_thread(provider.asked.wait, 10)
        await g.identity.close()
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.cancelling()]


async def test_a_store_that_does_not_answer_gives_no_token_and_knows_none(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        g.store.down = True
        with pytest.raises(Unavailable):
            await g.identity.exchange(g.provider.token(), peer=PEER)
        await refused(g.identity, "hgt_" + "a" * 43, "does not answer", Unavailable)


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"issuer": "corp"}', "\x00"])
async def test_a_damaged_record_lets_nobody_in(tmp_path: Path, record: str) -> None:
    async with gate(tmp_path) as g:
        token = "hgt_" + "a" * 43
        await g.store.save_token(token_id(token), "", record, g.clock() + 60)
        await refused(g.identity, token, "damaged", Unavailable)


async def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_module, "MAX_CACHED", 20)
    async with gate(tmp_path) as g:
        tokens = [g.issue(f"agent-{number}") for number in range(60)]
        for token in tokens:
            await g.identity.verify(token, peer=PEER)
        assert len(g.identity._cache) <= 20
        assert g.identity.cached_principal(tokens[-1], PEER) is not None
        assert (await g.identity.verify(tokens[0], peer=PEER)).subject == "agent-0"


async def test_after_close_nobody_is_known(tmp_path: Path) -> None:
    async with gate(tmp_path) as g:
        token = g.provider.token()
        await g.identity.verify(token, peer=PEER)
        await g.identity.close()
        await refused(g.identity, token, "issuer is not one")
