"""hopgate.yaml: `load_config(path)` gives a frozen Config or raises Misconfigured with every mistake."""

from __future__ import annotations

from hopgate.config.connections import Authorities, ConnectionConfig, CredentialConfig
from hopgate.config.load import load_config
from hopgate.config.model import (
    LOCAL_AUDIENCE,
    LOCAL_ISSUER,
    ApprovalsConfig,
    Config,
    ConsoleConfig,
    HttpListener,
    IdentityConfig,
    IssuerConfig,
    LedgerConfig,
    ListenConfig,
    OidcConfig,
    RecordingsConfig,
    SamlConfig,
    TLSConfig,
)

__all__ = [
    "LOCAL_AUDIENCE",
    "LOCAL_ISSUER",
    "ApprovalsConfig",
    "Authorities",
    "Config",
    "ConnectionConfig",
    "ConsoleConfig",
    "CredentialConfig",
    "HttpListener",
    "IdentityConfig",
    "IssuerConfig",
    "LedgerConfig",
    "ListenConfig",
    "OidcConfig",
    "RecordingsConfig",
    "SamlConfig",
    "TLSConfig",
    "load_config",
]
