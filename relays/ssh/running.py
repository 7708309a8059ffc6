"""What a client's channel has once something has been started on it: a program, a shell of lines, a file transfer."""

from __future__ import annotations

from relays.ssh.channel import Answer
from relays.ssh.codec import Request


class Running:
    """Hears what the client says from then on."""

    def client_data(self, data: bytes) -> None:
        raise NotImplementedError

    def take_short_way(self) -> None:
        """What came from the client until now has been told: from here on its data may go past the owner of its channel."""

    def client_eof(self) -> None:
        raise NotImplementedError

    def client_request(self, request: Request, answer: Answer) -> None:
        """Not one that starts something else."""
        answer(False)

    def client_drained(self) -> None:
        """All that was sent to the client has gone."""

    def client_closing(self) -> bool:
        """The client has closed its end. True: it may still be told how it ended, and the channel is closed then."""
        return False

    def client_closed(self) -> None:
        """The client has closed the channel, or is gone."""
        raise NotImplementedError

    def target_lost(self) -> None:
        """The target is gone. A program hears that from its own channel."""
