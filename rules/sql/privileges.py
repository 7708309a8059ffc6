"""GRANT and REVOKE, owners, and settings that are kept for sessions to come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rules.sql import settings
from rules.sql.facts import ANYTHING
from rules.sql.scopes import Scope
from rules.sql.walk import Handler, Node, Walk, strings


def _grant(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "grant" if node.get("is_grant") else "revoke", "access_control")
    everything = node.get("targtype") == "ACL_TARGET_ALL_IN_SCHEMA"
    kind = node.get("objtype", "")
    columns = [column for item in node.get("privileges", ()) for column in strings(item.get("AccessPriv", {}).get("cols", ()))]
    for wrapped in node.get("objects", ()):
        if everything and kind in ("OBJECT_TABLE", "OBJECT_SEQUENCE"):
            walk.writes_relation(scope, (strings([wrapped])[0], ANYTHING))
        elif "RangeVar" in wrapped:
            base = walk.relation(wrapped["RangeVar"])
            walk.writes_relation(scope, base)
            for column in columns:
                walk.columns[(*base, column)] = None
    if node.get("behavior") == "DROP_CASCADE":
        walk.does(scope, "", "access_control")
    walk.rest("GrantStmt", node, scope, ("objects",))


def _grant_role(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "grant" if node.get("is_grant") else "revoke", "access_control")
    walk.rest("GrantRoleStmt", node, scope)


def _default_privileges(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "alter", "access_control")
    walk.push("GrantStmt", node.get("action", {}), scope)
    walk.rest("AlterDefaultPrivilegesStmt", node, scope, ("action",))


def _owned(kind: str, verb: str) -> Handler:
    def define(walk: Walk, node: Node, scope: Scope) -> None:
        walk.does(scope, verb, "ddl", "access_control")
        walk.writes_relation(scope, (ANYTHING,))
        walk.rest(kind, node, scope)

    return define


# --- settings that stay


def stored_setting(walk: Walk, node: Node, scope: Scope) -> None:
    """The SET inside ALTER SYSTEM, ALTER ROLE and ALTER DATABASE: in force for sessions to come."""
    name = node.get("name", "")
    if node.get("kind") == "VAR_RESET_ALL" or not name:
        walk.settings["*"] = None
        walk.does(scope, "", *sorted(settings.ALL))
    else:
        walk.settings[name.lower()] = None
        walk.does(scope, "", *sorted(settings.effects_of(name) - {"read"}))
    walk.rest("VariableSetStmt", node, scope)


def _alter_system(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "alter", "server_control", "settings")
    stored_setting(walk, node.get("setstmt", {}), scope)


def _role_setting(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "alter", "access_control", "settings")
    stored_setting(walk, node.get("setstmt", {}), scope)


def _database_setting(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "alter", "ddl", "settings")
    stored_setting(walk, node.get("setstmt", {}), scope)


HANDLERS: Final[Mapping[str, Handler]] = {
    "GrantStmt": _grant,
    "GrantRoleStmt": _grant_role,
    "AlterDefaultPrivilegesStmt": _default_privileges,
    "DropOwnedStmt": _owned("DropOwnedStmt", "drop"),
    "ReassignOwnedStmt": _owned("ReassignOwnedStmt", "alter"),
    "AlterSystemStmt": _alter_system,
    "AlterRoleSetStmt": _role_setting,
    "AlterDatabaseSetStmt": _database_setting,
}
