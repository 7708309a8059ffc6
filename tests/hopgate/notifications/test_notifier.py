"""Reviewers are told once, without a secret, again when it fails, and whoever asks never waits for it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from hopgate.config import Config, load_config
from hopgate.errors import Misconfigured, Unavailable
from hopgate.notifications import AppriseChannel, Message, Notifier, WebhookChannel, message_of, signing_key
from hopgate.notifications.notifier import ATTEMPTS, CLAIM
from hopgate.references import Template
from hopgate.sources import Sources
from rules.model import Exact
from tests.hopgate.people import AGENT, ALICE, EXACT, HOLD, Desk, desk
from tests.hopgate.places import Place

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
PASSWORD = "hunter2-is-not-to-be-told"


@dataclass
class Recorder:
    """A channel that keeps what it is told, or fails."""

    name: str = "recorder"
    told: list[Message] = field(default_factory=list)
    failing: Exception | None = None
    closed: bool = False

    async def send(self, message: Message) -> None:
        if self.failing is not None:
            raise self.failing
        self.told.append(message)

    async def close(self) -> None:
        self.closed = True


@dataclass
class Hanging(Recorder):
    """Never answers."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, message: Message) -> None:
        self.asked.set()
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def notifying(place: Place, *channels: Recorder) -> AsyncIterator[tuple[Desk, Notifier, list[str]]]:
    counted: list[str] = []
    async with desk(place) as at:
        notifier = Notifier(at.store, channels, console="https://hopgate.example", count=counted.append, clock=at.clock)
        yield at, notifier, counted
        await notifier.close()


async def test_each_channel_is_told_once(place: Place) -> None:
    one, two = Recorder("one"), Recorder("two")
    async with notifying(place, one, two) as (at, notifier, counted):
        approval = await at.ask()
        assert await notifier.work() == 2
        assert await notifier.work() == 0
        assert [[each.approval for each in channel.told] for channel in (one, two)] == [[approval]] * 2
        assert one.told[0].url == f"https://hopgate.example/approvals/{approval}"
        assert counted == ["sent", "sent"]
        assert {(each.target, each.state) for each in await at.store.list_notifications()} == {("one", "sent"), ("two", "sent")}
        other = await at.ask(exact=replace(EXACT, payload=b"other"))
        assert await notifier.work() == 2
        assert [each.approval for each in one.told] == [approval, other]


async def test_of_several_processes_one_tells(place: Place) -> None:
    channels = [Recorder("same") for _ in range(4)]
    async with desk(place) as at:
        await at.ask()
        notifiers = [Notifier(at.store, [channel], clock=at.clock) for channel in channels]
        await asyncio.gather(*(notifier.work() for notifier in notifiers))
        assert sum(len(channel.told) for channel in channels) == 1


async def test_what_fails_is_tried_again_later_and_given_up_in_the_end(place: Place) -> None:
    channel = Recorder(failing=Unavailable("recorder: does not answer"))
    async with notifying(place, channel) as (at, notifier, counted):
        await at.ask(holds=(replace(HOLD, timeout=7 * 86400.0),))
        assert await notifier.work() == 1
        (row,) = await at.store.list_notifications("waiting")
        assert (row.attempts, row.error) == (1, "recorder: does not answer")
        assert await notifier.work() == 0  # not yet
        pauses = []
        while row.state == "waiting":
            pauses.append(row.due_at - at.clock.now)
            at.clock.now = row.due_at
            assert await notifier.work() == 1
            (row,) = await at.store.list_notifications()
        assert (row.state, row.attempts) == ("failed", ATTEMPTS)
        assert pauses == [2.0, 6.0, 18.0, 54.0, 162.0, 300.0, 300.0]
        assert counted == ["retried"] * (ATTEMPTS - 1) + ["failed"]
        assert await at.store.count_notifications() == {("recorder", "failed"): 1}


async def test_what_fails_once_arrives_later(place: Place) -> None:
    channel = Recorder(failing=ValueError(PASSWORD))
    async with notifying(place, channel) as (at, notifier, _):
        await at.ask()
        await notifier.work()
        assert (await at.store.list_notifications())[0].error == "recorder: ValueError"
        channel.failing = None
        at.clock.now += 10
        await notifier.work()
        assert len(channel.told) == 1
        (row,) = await at.store.list_notifications()
        assert (row.state, row.attempts, row.error) == ("sent", 2, "")


@pytest.mark.parametrize("end", ["decided", "overdue"])
async def test_what_is_settled_is_not_told(place: Place, end: str) -> None:
    channel = Recorder(failing=Unavailable("recorder: does not answer"))
    async with notifying(place, channel) as (at, notifier, counted):
        approval = await at.ask()
        await notifier.work()
        channel.failing = None
        if end == "decided":
            await at.approvals.decide(approval, ALICE, "deny")
        at.clock.now += 10 if end == "decided" else 601
        await notifier.work()
        assert channel.told == []
        assert (await at.store.list_notifications())[0].state == "dropped"
        assert counted == ["retried", "dropped"]


async def test_an_attempt_of_a_process_that_died_is_made_again(place: Place) -> None:
    channel = Recorder()
    async with notifying(place, channel) as (at, notifier, _):
        await at.ask()
        await at.store.plan_notifications(("recorder",), at.clock.now)
        (row,) = await at.store.due_notifications(at.clock.now, ("recorder",))
        assert await at.store.claim_notification(row, at.clock.now, at.clock.now + CLAIM)
        assert not await at.store.claim_notification(row, at.clock.now, at.clock.now + CLAIM)
        assert await notifier.work() == 0
        at.clock.now += CLAIM + 1
        assert await notifier.work() == 1
        assert len(channel.told) == 1


async def test_it_follows_the_store(place: Place) -> None:
    channel = Recorder()
    async with notifying(place, channel) as (at, notifier, _):
        await notifier.start()
        await at.ask()
        async with asyncio.timeout(30):
            while not channel.told:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert channel.closed


async def test_a_channel_that_hangs_holds_up_no_other(place: Place) -> None:
    hangs, fine = Hanging("hangs"), Recorder("fine")
    async with notifying(place, hangs, fine) as (at, notifier, _):
        await notifier.start()
        async with asyncio.timeout(30):
            await at.ask()
            await hangs.asked.wait()
            await at.ask(exact=replace(EXACT, payload=b"other"))
            while len(fine.told) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_what_was_to_go_to_channels_that_are_gone_holds_up_nobody(place: Place) -> None:
    gone, fine = [f"notify[{number}] gone" for number in range(101)], Recorder("fine")
    async with notifying(place, fine) as (at, notifier, _):
        await at.ask()
        await at.store.plan_notifications(gone, at.clock.now - 1)
        assert await notifier.work() == 1
        assert len(fine.told) == 1


async def test_a_store_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    channel = Recorder()
    async with notifying(tmp_path, channel) as (at, notifier, _):
        await at.ask()
        (tmp_path / "state.db").rename(tmp_path / "away.db")
        with pytest.raises(Unavailable):
            await notifier.work()
        (tmp_path / "away.db").rename(tmp_path / "state.db")
        await notifier.work()
        assert len(channel.told) == 1


# --- what is told


async def _message(tmp_path: Path, exact: Exact, kind: str) -> Message:
    async with desk(tmp_path) as at:
        found = await at.store.find_approval(await at.ask(exact=exact, facts={"kind": kind}))
        assert found is not None
        return message_of(found, "https://hopgate.example/")


@pytest.mark.parametrize(
    ("title", "kind", "told"),
    [
        ("drop orders", "sql", "drop orders"),
        ("POST /v1/refunds", "http", "POST /v1/refunds"),
        (f"POST /reset?token={PASSWORD}", "http", "POST /reset"),
        ("GET /u/AKIAIOSFODNN7EXAMPLE", "http", "GET /u/[hidden]"),
        (f"mysql -u root -p{PASSWORD} orders", "ssh", "mysql …"),
        (f"PGPASSWORD={PASSWORD} psql", "ssh", "[hidden]"),
        ("reboot", "ssh", "reboot"),
        (f"something {PASSWORD}", "other", "something …"),
        ("drop <!channel> @here `x`\u202e\n", "sql", "drop ‹!channel› ＠here 'x'??"),
    ],
)
async def test_a_message_names_and_quotes_nothing(tmp_path: Path, title: str, kind: str, told: str) -> None:
    secret = Exact(title, f"everything, {PASSWORD} too", b"payload", {"X-Key": PASSWORD})
    message = await _message(tmp_path, secret, kind)
    assert message.operation == told
    everything = f"{message.title}\n{message.body}\n{orjson.dumps(message.data()).decode()}"
    assert PASSWORD not in everything
    assert "corp:agent-7" in message.body
    assert "schema-needs-a-dba" in message.body
    assert "\u202e" not in everything


async def test_without_a_console_the_command_line_is_named(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        found = await at.store.find_approval(await at.ask())
        assert found is not None
        assert f"hopgate approvals show {found.id[:12]}" in message_of(found, "").body


# --- channels


class Receiver:
    """A web server on loopback that keeps requests and answers `status`."""

    def __init__(self) -> None:
        self.status = 204
        self.requests: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Requests(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


def webhook(url: str, secret: str = SECRET) -> WebhookChannel:
    return WebhookChannel("webhooks[0]", Template((url,)), Template((secret,)), Sources(None), clock=lambda: 1_800_000_000.5)


async def test_a_webhook_is_signed(tmp_path: Path, receiver: Receiver) -> None:
    channel = webhook(f"http://127.0.0.1:{receiver.port}/hook")
    message = await _message(tmp_path, EXACT, "sql")
    await channel.send(message)
    ((headers, body),) = receiver.requests
    assert headers["content-type"] == "application/json"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (message.approval, "1800000000")
    expected = hmac.digest(KEY, f"{message.approval}.1800000000.".encode() + body, "sha256")
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}"
    told = orjson.loads(body)
    assert (told["type"], told["timestamp"]) == ("approval.requested", "2027-01-15T08:00:00Z")
    assert told["data"]["requester"] == "corp:agent-7"
    receiver.status = 500
    with pytest.raises(Unavailable, match="answers 500"):
        await channel.send(message)
    await channel.close()


async def test_a_webhook_that_is_not_there_is_told_without_its_address(tmp_path: Path) -> None:
    channel = webhook(f"http://127.0.0.1:1/{PASSWORD}")
    with pytest.raises(Unavailable) as caught:
        await channel.send(await _message(tmp_path, EXACT, "sql"))
    assert PASSWORD not in str(caught.value)
    await channel.close()


@pytest.mark.parametrize("url", ["http://example.com/x", "ftp://127.0.0.1/x", "https://", "nothing", "https://[x"])
async def test_a_webhook_goes_by_https(url: str) -> None:
    with pytest.raises(Misconfigured, match="must be an https URL"):
        await webhook(url).check()


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_###", SECRET.removeprefix("whsec_"), "whsec_" + base64.b64encode(b"short").decode()]
)
def test_a_webhooks_secret_is_long_and_random(secret: str) -> None:
    with pytest.raises(Misconfigured, match="whsec_ and at least 24 random bytes"):
        signing_key(secret, "webhooks[0]")


async def test_apprise_sends(tmp_path: Path, receiver: Receiver) -> None:
    channel = AppriseChannel("notify[0] json", Template((f"json://127.0.0.1:{receiver.port}/x",)), Sources(None))
    message = await _message(tmp_path, EXACT, "sql")
    await channel.send(message)
    told = orjson.loads(receiver.requests[0][1])
    assert (told["title"], told["message"]) == (message.title, message.body)
    receiver.status = 500
    with pytest.raises(Unavailable, match="the service does not take it"):
        await channel.send(message)


CONFIG = """
version: 1
identity: {issuers: [{name: local, local: true}]}
approvals: {notify: ["%s", "json://${env:HOST}/x"], webhooks: [{url: "https://hooks.example/x", secret: "%s"}]}
"""


def config(tmp_path: Path, url: str = "json://localhost/", secret: str = SECRET) -> Config:
    path = tmp_path / "hopgate.yaml"
    path.write_text(CONFIG % (url, secret))
    return load_config(path)


async def test_channels_of_the_configuration_are_named_without_secrets(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        notifier = await Notifier.open(config(tmp_path, f"jsons://me:{PASSWORD}@chat.example/x"), at.store, Sources(None))
        assert list(notifier._channels) == ["notify[0] jsons", "notify[1] json", "webhooks[0]"]
        await notifier.close()


@pytest.mark.parametrize(("url", "secret", "message"), [("nothing://x", SECRET, "notify"), ("json://localhost/", "whsec_x", "webhooks")])
async def test_a_channel_that_can_be_seen_to_be_wrong_is_refused(tmp_path: Path, url: str, secret: str, message: str) -> None:
    async with desk(tmp_path) as at:
        with pytest.raises(Misconfigured, match=rf"approvals\.{message}\[0\]"):
            await Notifier.open(config(tmp_path, url, secret), at.store, Sources(None))


async def test_an_agent_does_not_wait_for_a_channel(place: Place) -> None:
    stuck = asyncio.Event()

    class Stuck(Recorder):
        async def send(self, message: Message) -> None:
            await stuck.wait()

    async with notifying(place, Stuck()) as (at, notifier, _):
        await notifier.start()
        approval = await at.ask()
        await at.approvals.decide(approval, ALICE, "approve")
        assert await at.approvals.spend(AGENT, "orders", EXACT) is not None
