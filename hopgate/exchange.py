"""Token exchange at `POST /oauth/token` (RFC 8693): the form, the answer, and errors as RFC 6749 section 5.2 has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

import orjson

from hopgate.config import LOCAL_AUDIENCE
from hopgate.errors import Denied, HopgateError, Unauthenticated
from hopgate.identity import Exchanged, Identity

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
MAX_FORM: Final = 64 << 10  # bytes: a token of 16 KB, every byte escaped, and the rest
HEADERS: Final = {"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749 section 5.1
_TYPE: Final = "urn:ietf:params:oauth:token-type:"
_SUBJECT_TYPES: Final = frozenset({_TYPE + "access_token", _TYPE + "id_token", _TYPE + "jwt"})
_KNOWN: Final = frozenset({"grant_type", "subject_token", "subject_token_type", "requested_token_type", "audience", "resource", "scope"})


class ExchangeError(HopgateError):
    """A refused exchange: `code` is the `error` of RFC 6749 section 5.2, `status` the HTTP status."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.status = status

    @property
    def body(self) -> bytes:
        # RFC 6749 permits printable ASCII without `"` and `\` in error_description
        text = self.message.encode("ascii", "replace").decode().replace('"', "'").replace("\\", "/")
        return orjson.dumps({"error": self.code, "error_description": text})


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """What a caller asks for."""

    subject_token: str = field(repr=False)
    subject_token_type: str


def parse_exchange(form: bytes) -> ExchangeRequest:
    """Read an application/x-www-form-urlencoded token request. Raises ExchangeError, never quoting the token."""
    if len(form) > MAX_FORM:
        raise ExchangeError("invalid_request", "the form is larger than 64 KiB", 413)
    try:
        pairs = parse_qsl(form.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=16, errors="strict")
    except ValueError:
        raise ExchangeError("invalid_request", "the body is not an application/x-www-form-urlencoded form") from None
    # RFC 6749 section 3.2: parameters without a value are treated as omitted, unknown ones ignored, none may come twice
    given = [(name, value) for name, value in pairs if value]
    fields = dict(given)
    if any(sum(name == each for each, _ in given) > 1 for name in _KNOWN):
        raise ExchangeError("invalid_request", "a parameter is given twice")
    if fields.get("grant_type") != GRANT_TYPE:
        code = "unsupported_grant_type" if "grant_type" in fields else "invalid_request"
        raise ExchangeError(code, f"grant_type must be {GRANT_TYPE}")
    _check_target(fields)
    if "subject_token" not in fields:
        raise ExchangeError("invalid_request", "subject_token is missing")
    if fields.get("subject_token_type") not in _SUBJECT_TYPES:
        raise ExchangeError("invalid_request", f"subject_token_type must be one of {', '.join(sorted(_SUBJECT_TYPES))}")
    return ExchangeRequest(fields["subject_token"], fields["subject_token_type"])


def _check_target(fields: dict[str, str]) -> None:
    if "actor_token" in fields:
        raise ExchangeError("invalid_request", "actor_token is not supported: have the provider put an act claim into the token")
    if fields.get("requested_token_type", _TYPE + "access_token") != _TYPE + "access_token":
        raise ExchangeError("invalid_request", f"requested_token_type can only be {_TYPE}access_token")
    if "resource" in fields or fields.get("audience", LOCAL_AUDIENCE) != LOCAL_AUDIENCE:
        raise ExchangeError("invalid_target", f"tokens are issued for {LOCAL_AUDIENCE} only")
    if "scope" in fields:
        raise ExchangeError("invalid_scope", "scopes are not used: rules decide")


def exchanged_body(exchanged: Exchanged) -> bytes:
    """The answer of RFC 8693 section 2.2.1."""
    return orjson.dumps(
        {
            "access_token": exchanged.access_token,
            "issued_token_type": _TYPE + "access_token",
            "token_type": "Bearer",
            "expires_in": exchanged.expires_in,
        }
    )


async def answer(identity: Identity, form: bytes, *, peer: str) -> tuple[int, bytes]:
    """HTTP status and JSON body for a token request from `peer`, refusals included. Send them with `HEADERS`."""
    try:
        request = parse_exchange(form)
        return 200, exchanged_body(await identity.exchange(request.subject_token, peer=peer))
    except ExchangeError as error:
        return error.status, error.body
    except Unauthenticated as error:
        # RFC 8693 section 2.2.2: an unacceptable subject token is an invalid_request
        return 400, ExchangeError("invalid_request", error.message).body
    except Denied as error:
        return 403, ExchangeError("access_denied", error.message).body
    except HopgateError as error:
        return 503, ExchangeError("temporarily_unavailable", error.message).body
