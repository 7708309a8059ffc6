"""CREATE, ALTER, DROP, GRANT and their kin: what is defined, and by which words.

What a definition stores for later (a view's query, a rule's actions, a function's body in SQL) counts with its relations,
columns, functions and effects, but adds no verb: it is not done now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from rules.sql.calls import call
from rules.sql.facts import ANYTHING
from rules.sql.queries import into, stored
from rules.sql.scopes import Scope, Source
from rules.sql.walk import Handler, Node, Walk, strings

# kind: verb, effects
_PLAIN: Final[Mapping[str, tuple[str, str]]] = {
    "CreateStmt": ("create", "ddl"),
    "IndexStmt": ("create", "ddl"),
    "CreateSeqStmt": ("create", "ddl"),
    "CreateDomainStmt": ("create", "ddl"),
    "CreateEnumStmt": ("create", "ddl"),
    "CreateRangeStmt": ("create", "ddl"),
    "CompositeTypeStmt": ("create", "ddl"),
    "DefineStmt": ("create", "ddl"),
    "CreateEventTrigStmt": ("create", "ddl"),
    "CreateFdwStmt": ("create", "ddl network"),
    "CreateForeignServerStmt": ("create", "ddl network"),
    "CreateUserMappingStmt": ("create", "ddl network access_control"),
    "CreateCastStmt": ("create", "ddl"),
    "CreateConversionStmt": ("create", "ddl"),
    "CreateOpClassStmt": ("create", "ddl"),
    "CreateOpFamilyStmt": ("create", "ddl"),
    "CreateTransformStmt": ("create", "ddl"),
    "CreatePLangStmt": ("create", "ddl code_load"),
    "CreateAmStmt": ("create", "ddl code_load"),
    "CreateExtensionStmt": ("create", "ddl code_load"),
    "CreatePublicationStmt": ("create", "ddl"),
    "CreateSubscriptionStmt": ("create", "ddl network"),
    "CreateStatsStmt": ("create", "ddl"),
    "CreateTableSpaceStmt": ("create", "ddl server_file_write"),
    "CreatedbStmt": ("create", "ddl"),
    "CreatePolicyStmt": ("create", "ddl access_control"),
    "CreateRoleStmt": ("create", "access_control"),
    "ImportForeignSchemaStmt": ("create", "ddl network"),
    "AlterDomainStmt": ("alter", "ddl"),
    "AlterEnumStmt": ("alter", "ddl"),
    "AlterSeqStmt": ("alter", "ddl sequence"),
    "AlterOperatorStmt": ("alter", "ddl"),
    "AlterOpFamilyStmt": ("alter", "ddl"),
    "AlterTypeStmt": ("alter", "ddl"),
    "AlterCollationStmt": ("alter", "ddl"),
    "AlterStatsStmt": ("alter", "ddl"),
    "AlterTSConfigurationStmt": ("alter", "ddl"),
    "AlterTSDictionaryStmt": ("alter", "ddl"),
    "AlterEventTrigStmt": ("alter", "ddl"),
    "AlterObjectDependsStmt": ("alter", "ddl"),
    "AlterDatabaseStmt": ("alter", "ddl"),
    "AlterDatabaseRefreshCollStmt": ("alter", "ddl"),
    "AlterTableSpaceOptionsStmt": ("alter", "ddl"),
    "AlterExtensionStmt": ("alter", "ddl code_load"),
    "AlterExtensionContentsStmt": ("alter", "ddl"),
    "AlterFdwStmt": ("alter", "ddl network"),
    "AlterForeignServerStmt": ("alter", "ddl network"),
    "AlterUserMappingStmt": ("alter", "ddl network access_control"),
    "AlterPublicationStmt": ("alter", "ddl"),
    "AlterSubscriptionStmt": ("alter", "ddl network"),
    "AlterPolicyStmt": ("alter", "ddl access_control"),
    "AlterRoleStmt": ("alter", "access_control"),
    "SecLabelStmt": ("alter", "access_control"),
    "DropdbStmt": ("drop", "ddl"),
    "DropRoleStmt": ("drop", "access_control"),
    "DropTableSpaceStmt": ("drop", "ddl"),
    "DropUserMappingStmt": ("drop", "ddl access_control"),
    "DropSubscriptionStmt": ("drop", "ddl network"),
}
_TARGETS: Final = ("relation", "sequence", "typevar", "table")
# objects of DROP, COMMENT, ALTER that rules name like relations
_RELATIONS: Final = frozenset(
    {"OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE", "OBJECT_SEQUENCE", "OBJECT_INDEX", "OBJECT_COLUMN"}
)
_ON_RELATIONS: Final = frozenset({"OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY", "OBJECT_TABCONSTRAINT"})  # the last name is their own
_ACCESS_COMMANDS: Final = frozenset(
    {"AT_ChangeOwner", "AT_EnableRowSecurity", "AT_DisableRowSecurity", "AT_ForceRowSecurity", "AT_NoForceRowSecurity"}
)
_SAFE_LANGUAGES: Final = frozenset({"sql", "plpgsql"})


def _plain(kind: str, verb: str, effects: Sequence[str]) -> Handler:
    def define(walk: Walk, node: Node, scope: Scope) -> None:
        walk.does(scope, verb, *effects)
        inner = stored(scope)
        found = [name for name in _TARGETS if isinstance(node.get(name), dict)]
        for name in found:
            _target(walk, node[name], inner)
        walk.rest(kind, node, inner, found)

    return define


def _target(walk: Walk, range_var: Node, scope: Scope) -> None:
    """The relation that is defined or changed; columns named inside are its own."""
    base = walk.relation(range_var)
    walk.writes_relation(scope, base)
    scope.add(range_var.get("relname", ""), Source((base,)))


def _create_schema(walk: Walk, node: Node, scope: Scope) -> None:
    """Its elements are created too, in the new schema."""
    walk.does(scope, "create", "ddl")
    schema = node.get("schemaname") or node.get("authrole", {}).get("rolename", "")
    walk.writes_relation(scope, (schema, ANYTHING))
    if "schemaElts" in node:  # the new schema comes before the others while they are created
        walk.state = replace(walk.state, schemas=(schema, *(walk.state.schemas or ("",))))
    for element in node.get("schemaElts", ()):
        for kind, definition in element.items():
            walk.push(
                kind,
                {name: _in_schema(value, schema) if name in (*_TARGETS, "view") else value for name, value in definition.items()},
                scope,
            )
    walk.rest("CreateSchemaStmt", node, scope, ("schemaElts",))


def _in_schema(range_var: Node, schema: str) -> Node:
    return {"schemaname": schema, **range_var} if isinstance(range_var, dict) else range_var


# --- tables and views


def _alter_table(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "alter", "ddl")
    inner = stored(scope)
    _target(walk, node.get("relation", {}), inner)
    for item in node.get("cmds", ()):
        command = item.get("AlterTableCmd", {})
        if command.get("subtype") in _ACCESS_COMMANDS:
            walk.does(scope, "", "access_control")
        if command.get("behavior") == "DROP_CASCADE":
            walk.writes_relation(scope, (ANYTHING,))
        if command.get("subtype") in ("AT_AttachPartition", "AT_DetachPartition", "AT_DetachPartitionFinalize"):
            walk.writes_relation(scope, walk.relation(command.get("def", {}).get("PartitionCmd", {}).get("name", {})))
    walk.rest("AlterTableStmt", node, inner, ("relation",))


def _create_table_as(walk: Walk, node: Node, scope: Scope) -> None:
    into(walk, node.get("into", {}), scope, "create")
    walk.push_wrapped(node.get("query"), scope.inside())
    walk.rest("CreateTableAsStmt", node, scope, ("into", "query"))


def _view(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "create", "ddl")
    walk.writes_relation(scope, walk.relation(node.get("view", {})))
    walk.rest("ViewStmt", node, stored(scope), ("view", "aliases"))


def _rule(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "create", "ddl")
    inner = stored(scope)
    base = walk.relation(node.get("relation", {}))
    walk.writes_relation(scope, base)
    inner.add("old", Source((base,)))
    inner.add("new", Source((base,)))
    walk.rest("RuleStmt", node, inner, ("relation",))


def _trigger(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "create", "ddl")
    inner = stored(scope)
    base = walk.relation(node.get("relation", {}))
    walk.writes_relation(scope, base)
    inner.add("old", Source((base,)))
    inner.add("new", Source((base,)))
    call(walk, strings(node.get("funcname", ())), len(node.get("args", ())))
    for column in strings(node.get("columns", ())):
        walk.columns[(*base, column)] = None
    walk.rest("CreateTrigStmt", node, inner, ("relation", "funcname", "args", "columns"))


def _foreign_table(walk: Walk, node: Node, scope: Scope) -> None:
    """A foreign table may be a file or the output of a program (file_fdw)."""
    walk.does(scope, "", "network")
    for item in node.get("options", ()):
        option = item.get("DefElem", {}).get("defname", "").lower()
        if option in ("filename", "program"):
            walk.does(scope, "", "server_file_read" if option == "filename" else "os_command")
    walk.push("CreateStmt", node.get("base", {}), scope)
    walk.rest("CreateForeignTableStmt", node, scope, ("base",))


def _constraint(walk: Walk, node: Node, scope: Scope) -> None:
    """A foreign key looks at the other table, but reads nothing of it for the caller."""
    if "pktable" in node:
        base = walk.relation(node["pktable"])
        walk.reads_relation(scope, base)
        for column in strings(node.get("pk_attrs", ())):
            walk.columns[(*base, column)] = None
    walk.rest("Constraint", node, scope, ("pktable", "keys", "including", "fk_attrs", "pk_attrs", "fk_del_set_cols"))


# --- functions


def _create_function(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "create", "ddl")
    _language(walk, node.get("options", ()), scope)
    inner = stored(scope)
    for item in node.get("options", ()):
        if "VariableSetStmt" not in item.get("DefElem", {}).get("arg", {}):  # in force only while the function runs
            walk.push_wrapped(item, inner)
    walk.rest("CreateFunctionStmt", node, inner, ("funcname", "options"))


def _language(walk: Walk, options: Sequence[Node], scope: Scope) -> None:
    """SQL and PL/pgSQL stay in the database; every other language may load a library or leave for the machine."""
    for item in options:
        option = item.get("DefElem", {})
        if option.get("defname") == "language" and not {*strings([option.get("arg", {})])} <= _SAFE_LANGUAGES:
            walk.does(scope, "", "code_load")


def _alter_function(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "alter", "ddl")
    for item in node.get("actions", ()):
        action = item.get("DefElem", {})
        if action.get("defname") == "security":
            walk.does(scope, "", "access_control")
        if "VariableSetStmt" not in action.get("arg", {}):
            walk.push_wrapped(item, stored(scope))
    walk.rest("AlterFunctionStmt", node, stored(scope), ("actions",))


# --- any object


def object_relation(walk: Walk, kind: str, wrapped: Node, scope: Scope) -> None:
    """Count an object that DROP, COMMENT or ALTER names as written, where it is a relation or stands on one."""
    names = strings(wrapped.get("List", {}).get("items", ())) or strings([wrapped])
    if kind in _ON_RELATIONS or kind == "OBJECT_COLUMN":
        if kind == "OBJECT_COLUMN" and len(names) > 1:
            walk.columns[(*walk.named(names[:-1]), names[-1])] = None
        names = names[:-1]
    if kind == "OBJECT_SCHEMA" and names:
        walk.writes_relation(scope, (names[-1], ANYTHING))
    elif kind in _RELATIONS | _ON_RELATIONS and names:
        walk.writes_relation(scope, walk.named(names))


def _drop(walk: Walk, node: Node, scope: Scope) -> None:
    kind = node.get("removeType", "OBJECT_ACCESS_METHOD")
    walk.does(scope, "drop", "ddl")
    if kind == "OBJECT_POLICY":
        walk.does(scope, "", "access_control")
    for wrapped in node.get("objects", ()):
        object_relation(walk, kind, wrapped, scope)
    _cascade(walk, node, scope)
    walk.rest("DropStmt", node, scope)


def _cascade(walk: Walk, node: Node, scope: Scope) -> None:
    if node.get("behavior") == "DROP_CASCADE":
        walk.writes_relation(scope, (ANYTHING,))  # whatever depends on it


def _comment(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "comment", "ddl")
    object_relation(walk, node.get("objtype", ""), node.get("object", {}), scope)
    walk.rest("CommentStmt", node, scope)


def _rename(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "rename", "ddl")
    if node.get("renameType") == "OBJECT_ROLE":
        walk.does(scope, "", "access_control")
    if "relation" in node:
        base = walk.relation(node["relation"])
        walk.writes_relation(scope, base)
        if node.get("renameType") == "OBJECT_COLUMN":
            for name in (node.get("subname"), node.get("newname")):
                walk.columns[(*base, str(name))] = None
        elif node.get("renameType") in _RELATIONS:
            walk.writes_relation(scope, (*base[:-1], node.get("newname", "")))
    elif node.get("renameType") == "OBJECT_SCHEMA":
        walk.writes_relation(scope, (node.get("subname", ""), ANYTHING))
    walk.rest("RenameStmt", node, scope, ("relation",))


def _set_schema(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "alter", "ddl")
    if "relation" in node:
        base = walk.relation(node["relation"])
        walk.writes_relation(scope, base)
        walk.writes_relation(scope, (node.get("newschema", ""), base[-1]))
    walk.rest("AlterObjectSchemaStmt", node, scope, ("relation",))


def _owner(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "alter", "ddl", "access_control")
    if "relation" in node:
        walk.writes_relation(scope, walk.relation(node["relation"]))
    object_relation(walk, node.get("objectType", ""), node.get("object", {}), scope)
    walk.rest("AlterOwnerStmt", node, scope, ("relation",))


def _move_all(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "alter", "ddl")
    walk.writes_relation(scope, (ANYTHING,))
    walk.rest("AlterTableMoveAllStmt", node, scope)


HANDLERS: Final[Mapping[str, Handler]] = {
    **{kind: _plain(kind, verb, effects.split()) for kind, (verb, effects) in _PLAIN.items()},
    "AlterTableStmt": _alter_table,
    "CreateTableAsStmt": _create_table_as,
    "ViewStmt": _view,
    "RuleStmt": _rule,
    "CreateTrigStmt": _trigger,
    "CreateForeignTableStmt": _foreign_table,
    "Constraint": _constraint,
    "CreateFunctionStmt": _create_function,
    "AlterFunctionStmt": _alter_function,
    "DropStmt": _drop,
    "CommentStmt": _comment,
    "RenameStmt": _rename,
    "AlterObjectSchemaStmt": _set_schema,
    "AlterOwnerStmt": _owner,
    "CreateSchemaStmt": _create_schema,
    "AlterTableMoveAllStmt": _move_all,
}
