"""What setting a run-time parameter does: nothing to others, to the meaning of later text, to who runs it, to the server."""

from __future__ import annotations

from typing import Final

from rules.sql.functions import words

_ROLE: Final = frozenset({"role", "session_authorization"})
# they change how later statements are read or what their names mean; those with values are harmless at these values
_MEANING: Final = {
    "standard_conforming_strings": frozenset({"on", "true", "yes", "1"}),
    "client_encoding": frozenset({"utf8", "utf-8", "unicode"}),
    "transform_null_equals": frozenset({"off", "false", "no", "0"}),
    "array_nulls": frozenset({"on", "true", "yes", "1"}),
    "backslash_quote": frozenset({"safe_encoding", "off", "false", "no", "0"}),
    "search_path": frozenset[str](),
}
_CODE: Final = words(
    """local_preload_libraries session_preload_libraries shared_preload_libraries dynamic_library_path extension_control_path
    jit_provider archive_library oauth_validator_libraries output_plugin_libraries"""
)
_COMMANDS: Final = words("archive_command restore_command archive_cleanup_command recovery_end_command ssl_passphrase_command")
_ACCESS: Final = words(
    "session_replication_role row_security allow_system_table_mods event_triggers createrole_self_grant lo_compat_privileges"
)
_HARMLESS: Final = words(
    """application_name statement_timeout lock_timeout idle_in_transaction_session_timeout idle_session_timeout transaction_timeout
    client_min_messages datestyle intervalstyle timezone extra_float_digits bytea_output escape_string_warning lc_messages
    lc_monetary lc_numeric lc_time xmlbinary xmloption transaction_isolation transaction_deferrable default_transaction_isolation
    default_transaction_deferrable jit plan_cache_mode geqo cursor_tuple_fraction"""
)
READ_ONLY: Final = "transaction_read_only"


def effects_of(name: str, value: str | None = None) -> frozenset[str]:
    """The effects of giving the parameter that value; None is its default, or one that the text does not tell."""
    name = name.lower()
    if name in _HARMLESS:
        return frozenset({"read"})
    if name in _ROLE:
        return frozenset({"identity_change"})
    if name in _MEANING:
        return frozenset({"read"} if value is not None and value.lower() in _MEANING[name] else {"lexer_state"})
    if name in _CODE:
        return frozenset({"settings", "code_load"})
    if name in _COMMANDS:
        return frozenset({"settings", "os_command"})
    if name in _ACCESS:
        return frozenset({"settings", "access_control"})
    return frozenset({"settings"})


ALL: Final = frozenset({"settings", "lexer_state", "identity_change"})  # RESET ALL, and a name that the text does not tell


def is_role(name: str) -> bool:
    return name.lower() in _ROLE
