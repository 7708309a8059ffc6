"""The commands that the agent's model "writes" for the host, what the agent must get for each, and whether the host may see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ACCESS_KEY: Final = "AKIAIOSFODNN7EXAMPLE"  # an example of the vendor's documents
TOKEN: Final = "ghp_0123456789abcdefghijABCDEFGHIJ012345"  # noqa: S105 made up
NOTES: Final = f"service: orders\nregion: eu-central-1\naccess key: {ACCESS_KEY}\ntoken: {TOKEN}\nowner: Ada\n"
SECRETS: Final = (ACCESS_KEY, TOKEN)


@dataclass(frozen=True, slots=True)
class HostCommand:
    """One command line, or one upload (`put REMOTE`). `status` is what ssh or sftp ended with; `contains` is in what it printed."""

    line: str
    status: int
    verdict: str
    contains: str
    note: str = ""
    direct: bool = False  # at the host's real address


COMMANDS: Final = (
    HostCommand("uptime", 0, "allowed", "load average"),
    HostCommand("cat {srv}/notes.txt | sort", 0, "allowed, masked", "owner: Ada"),
    HostCommand("rm -rf {srv}", 126, "denied", "ssh-no-recursive-remove"),
    HostCommand("ls; bash -c \"$(echo rm -rf {srv})\"", 126, "denied", "hopgate: ", "an expansion decides what it runs"),
    HostCommand("echo cm0gLXJmIC8K | base64 -d | sh", 126, "denied", "ssh-no-piped-code", "code in disguise"),
    HostCommand("systemctl restart orders", 0, "held, approved", "restarted orders", "needs somebody of ops"),
    HostCommand("put {srv}/upload/report.txt", 0, "allowed", "", "by sftp"),
    HostCommand("put {srv}/report.txt", 1, "denied", "no rule allows this", "by sftp, outside the allowed path"),
    HostCommand("put {srv}/upload/../report.txt", 1, "denied", "no rule allows this", "by sftp, by a path written to deceive"),
    HostCommand("uptime", 255, "refused", "Permission denied", "at the host's real address, with the token", direct=True),
)  # fmt: skip
REPORT: Final = b"all well\n"

_CODE = """Now the host. ssh asks for a password, which is the token.
```python
import json, os, subprocess, tempfile
def run(words, line, note, given=None):
    done = subprocess.run(words, input=given, capture_output=True, timeout=80, env={**os.environ, "SSH_ASKPASS_REQUIRE": "force"})
    text = (done.stdout + done.stderr).decode(errors="replace")
    hop = {"client": words[0], "request": line, "status": done.returncode, "text": text, "note": note}
    print("HOP " + json.dumps(hop), flush=True)

place = tempfile.mkdtemp()
with open(place + "/report.txt", "wb") as file:
    file.write(%(report)r)
%(calls)s
```"""


def message(options: Sequence[str], address: str, real: Sequence[str], real_address: str, srv: str) -> str:
    """The model's turn: `options` of ssh and sftp for the gateway, `real` for the host itself."""
    calls = []
    for each in COMMANDS:
        line = each.line.format(srv=srv)
        if line.startswith("put "):
            words = ["sftp", "-o", "BatchMode=no", "-b", "-", *options, address]
            calls.append(f"run({words!r}, {line!r}, {each.note!r}, ('put ' + place + '/report.txt {line[4:]}\\n').encode())")
        else:
            words = ["ssh", *(real if each.direct else options), real_address if each.direct else address, line]
            calls.append(f"run({words!r}, {line!r}, {each.note!r})")
    return _CODE % {"report": REPORT, "calls": "\n".join(calls)}
