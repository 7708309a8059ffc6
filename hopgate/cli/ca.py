"""`hopgate ca`: the authority that agents must trust for HTTPS."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from hopgate.cli.common import CONFIG, ConfigOption, JsonOption, check_owner, load
from hopgate.cli.output import emit, note, say


def create(config: ConfigOption = CONFIG) -> None:
    """Make the authority, unless there is one. `hopgate up` does so too."""
    from hopgate.ca import certificate_path, create_ca

    loaded = load(config)
    check_owner(loaded.state)
    made = create_ca(loaded.state)
    note(f"{certificate_path(loaded.state)}: {'made' if made else 'is there already'}")


def show(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Fingerprint and validity, to compare with what an agent's machine trusts."""
    from hopgate.ca import certificate_path, fingerprint, load_certificate

    loaded = load(config)
    certificate = load_certificate(loaded.state)
    told = {
        "certificate": str(certificate_path(loaded.state)),
        "sha256": fingerprint(certificate),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }
    if as_json:
        emit(told)
    else:
        for name, value in told.items():
            say(f"{name:<12} {value}")


def export(
    bundle: Annotated[bool, typer.Option("--bundle", help="With the public authorities, as SSL_CERT_FILE needs it.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; stdout when it is left out.", metavar="FILE")] = None,
    config: ConfigOption = CONFIG,
) -> None:
    """Print the certificate (never the key) in PEM form."""
    from hopgate.ca import certificate_path, load_certificate, write_bundle

    loaded = load(config)
    load_certificate(loaded.state)
    text = (write_bundle(loaded.state) if bundle else certificate_path(loaded.state)).read_text()
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text)
        note(f"{output}: written")


COMMANDS: Final[Mapping[str, Callable[..., object]]] = {"create": create, "show": show, "export": export}
