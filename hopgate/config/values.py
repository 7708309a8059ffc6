"""The kinds of value that hopgate.yaml holds, each with the words for a wrong one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, PlainValidator, ValidationInfo

from hopgate.addresses import Address, IPNetwork, parse_address
from hopgate.references import Template, parse_template

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION: Final = re.compile(r"(?:[0-9]{1,6}(?:ms|[smhdw]))+", re.ASCII)
_DURATION_PART: Final = re.compile(r"([0-9]+)(ms|[smhdw])")
_BYTES: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?([KMG]?i?B)?", re.ASCII | re.IGNORECASE)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


def parse_duration(value: Any) -> float:
    """`90d`, `1h30m`, `50s`, `200ms` as seconds, more than zero. Raises ValueError."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        seconds = sum(int(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
        if seconds > 0:
            return seconds
    raise ValueError("must be a length of time with its unit, as in 50s, 10m, 1h30m or 90d")


def parse_size(value: Any) -> int:
    """`50MB`, `64KiB` or a plain number of bytes; KB is 1000 bytes and KiB 1024. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * _BYTES[(match[2] or "").upper()]
    raise ValueError("must be a number of bytes, as in 65536, 64KiB or 50MB")


def _name(value: Any) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise ValueError("must be a name of up to 63 letters, digits, dots, dashes and underscores, starting with a letter or digit")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes" if isinstance(value, bool | int | float) else "must be text")
    if not value.strip() or not value.isprintable():
        raise ValueError("must be printable text, not empty")
    return value


def _path(value: Any, info: ValidationInfo) -> Path:
    return base_directory(info) / Path(_text(value)).expanduser()


def _template(value: Any, info: ValidationInfo) -> Template:
    if not isinstance(value, str) or not value:
        raise ValueError("must be text, not empty; put numbers in quotes")
    return parse_template(value, base_directory(info))


def _listener(value: Any) -> Address:
    text = _text(value)
    if text.startswith("localhost:"):
        text = "127.0.0.1" + text.removeprefix("localhost")
    address = parse_address(text, lowest_port=0)
    if address.ip is None:
        raise ValueError("must name an IP address of this machine, as in 127.0.0.1:8080")
    return address


def _network(value: Any) -> IPNetwork:
    try:
        return ip_network(_text(value))
    except ValueError:
        raise ValueError("must be a network as in 10.0.0.0/8, with no bit set after its prefix") from None


def _timezone(value: Any) -> str:
    name = _text(value)
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be a time zone of the IANA database, as in UTC or Europe/Berlin") from None
    return name


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _accepted(value: Any) -> tuple[str | int | bool, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str | int | bool) and each != "" for each in values):
        raise ValueError("must be text, a number, true or false, or a list of these")
    return tuple(values)


def base_directory(info: ValidationInfo) -> Path:
    """The directory of the file that is being loaded: relative paths start there."""
    return Path(info.context["base"]) if isinstance(info.context, Mapping) else Path()


type Name = Annotated[str, PlainValidator(_name)]
type Text = Annotated[str, PlainValidator(_text)]
type Texts = Annotated[tuple[Text, ...], BeforeValidator(_one_or_many)]
type AcceptedValues = Annotated[tuple[str | int | bool, ...], PlainValidator(_accepted)]
type Seconds = Annotated[float, PlainValidator(parse_duration)]
type Bytes = Annotated[int, PlainValidator(parse_size)]
type FilePath = Annotated[Path, PlainValidator(_path)]
type SecretText = Annotated[Template, PlainValidator(_template)]
type ListenAddress = Annotated[Address, PlainValidator(_listener)]
type Network = Annotated[IPNetwork, PlainValidator(_network)]
type TimeZone = Annotated[str, PlainValidator(_timezone)]
