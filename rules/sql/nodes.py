"""The nodes of PostgreSQL 18's raw parse tree: which of their fields hold other nodes. What is not in here is not understood.

Written from libpg_query's pg_query.desc; a test compares it with the library's own description. `field` holds a node or a
list of nodes, each wrapped in its kind; `field:Kind` holds one unwrapped node of that kind. Kinds that only later stages
of the server make (Query, Var, plan nodes …) are left out on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

WRAPPED: Final = ""

_TABLE: Final = """
Integer:
Float:
Boolean:
String:
BitString:
List: items
A_Const: ival:Integer fval:Float boolval:Boolean sval:String bsval:BitString
Alias: colnames
RangeVar: alias:Alias
IntoClause: rel:RangeVar colNames options
GroupingFunc: args refs
MergeSupportFunc:
NamedArgExpr: arg
BoolExpr: args
SubLink: testexpr operName subselect
CaseExpr: arg args defresult
CaseWhen: expr result
RowExpr: args colnames
CoalesceExpr: args
MinMaxExpr: args
SQLValueFunction:
XmlExpr: named_args arg_names args
JsonFormat:
JsonReturning: format:JsonFormat
JsonValueExpr: raw_expr formatted_expr format:JsonFormat
JsonIsPredicate: expr format:JsonFormat
JsonBehavior: expr
NullTest: arg
BooleanTest: arg
SetToDefault:
CurrentOfExpr:
JoinExpr: larg rarg usingClause join_using_alias:Alias quals alias:Alias
TypeName: names typmods arrayBounds
ColumnRef: fields
ParamRef:
A_Expr: name lexpr rexpr
TypeCast: arg typeName:TypeName
CollateClause: arg collname
RoleSpec:
FuncCall: funcname args agg_order agg_filter over:WindowDef
A_Star:
A_Indices: lidx uidx
A_Indirection: arg indirection
A_ArrayExpr: elements
ResTarget: indirection val
MultiAssignRef: source
SortBy: node useOp
WindowDef: partitionClause orderClause startOffset endOffset
RangeSubselect: subquery alias:Alias
RangeFunction: functions alias:Alias coldeflist
RangeTableFunc: docexpr rowexpr namespaces columns alias:Alias
RangeTableFuncCol: typeName:TypeName colexpr coldefexpr
RangeTableSample: relation method args repeatable
ColumnDef: typeName:TypeName raw_default identitySequence:RangeVar collClause:CollateClause constraints fdwoptions
TableLikeClause: relation:RangeVar
IndexElem: expr collation opclass opclassopts
DefElem: arg
LockingClause: lockedRels
XmlSerialize: expr typeName:TypeName
PartitionElem: expr collation opclass
PartitionSpec: partParams
PartitionBoundSpec: listdatums lowerdatums upperdatums
PartitionRangeDatum: value
PartitionCmd: name:RangeVar bound:PartitionBoundSpec
GroupingSet: content
WithClause: ctes
InferClause: indexElems whereClause
OnConflictClause: infer:InferClause targetList whereClause
CTESearchClause: search_col_list
CTECycleClause: cycle_col_list cycle_mark_value cycle_mark_default
CommonTableExpr: aliascolnames ctequery search_clause:CTESearchClause cycle_clause:CTECycleClause
MergeWhenClause: condition targetList values
ReturningOption:
ReturningClause: options exprs
TriggerTransition:
JsonOutput: typeName:TypeName returning:JsonReturning
JsonArgument: val:JsonValueExpr
JsonFuncExpr: context_item:JsonValueExpr pathspec passing output:JsonOutput on_empty:JsonBehavior on_error:JsonBehavior
JsonTablePathSpec: string
JsonTable: context_item:JsonValueExpr pathspec:JsonTablePathSpec passing columns on_error:JsonBehavior alias:Alias
JsonTableColumn: typeName:TypeName pathspec:JsonTablePathSpec format:JsonFormat columns on_empty:JsonBehavior on_error:JsonBehavior
JsonKeyValue: key value:JsonValueExpr
JsonParseExpr: expr:JsonValueExpr output:JsonOutput
JsonScalarExpr: expr output:JsonOutput
JsonSerializeExpr: expr:JsonValueExpr output:JsonOutput
JsonObjectConstructor: exprs output:JsonOutput
JsonArrayConstructor: exprs output:JsonOutput
JsonArrayQueryConstructor: query output:JsonOutput format:JsonFormat
JsonAggConstructor: output:JsonOutput agg_filter agg_order over:WindowDef
JsonObjectAgg: constructor:JsonAggConstructor arg:JsonKeyValue
JsonArrayAgg: constructor:JsonAggConstructor arg:JsonValueExpr
InsertStmt: relation:RangeVar cols selectStmt onConflictClause:OnConflictClause returningClause:ReturningClause withClause:WithClause
DeleteStmt: relation:RangeVar usingClause whereClause returningClause:ReturningClause withClause:WithClause
UpdateStmt: relation:RangeVar targetList whereClause fromClause returningClause:ReturningClause withClause:WithClause
MergeStmt: relation:RangeVar sourceRelation joinCondition mergeWhenClauses returningClause:ReturningClause withClause:WithClause
SelectStmt: distinctClause intoClause:IntoClause targetList fromClause whereClause groupClause havingClause windowClause valuesLists
  sortClause limitOffset limitCount lockingClause withClause:WithClause larg:SelectStmt rarg:SelectStmt
ReturnStmt: returnval
CreateSchemaStmt: authrole:RoleSpec schemaElts
AlterTableStmt: relation:RangeVar cmds
AlterTableCmd: newowner:RoleSpec def
ATAlterConstraint:
ReplicaIdentityStmt:
AlterCollationStmt: collname
AlterDomainStmt: typeName def
GrantStmt: objects privileges grantees grantor:RoleSpec
ObjectWithArgs: objname objargs objfuncargs
AccessPriv: cols
GrantRoleStmt: granted_roles grantee_roles opt grantor:RoleSpec
AlterDefaultPrivilegesStmt: options action:GrantStmt
CopyStmt: relation:RangeVar query attlist options whereClause
VariableSetStmt: args
VariableShowStmt:
CreateStmt: relation:RangeVar tableElts inhRelations partbound:PartitionBoundSpec partspec:PartitionSpec ofTypename:TypeName constraints
  nnconstraints options
Constraint: raw_expr keys including exclusions options where_clause pktable:RangeVar fk_attrs pk_attrs fk_del_set_cols
CreateTableSpaceStmt: owner:RoleSpec options
DropTableSpaceStmt:
AlterTableSpaceOptionsStmt: options
AlterTableMoveAllStmt: roles
CreateExtensionStmt: options
AlterExtensionStmt: options
AlterExtensionContentsStmt: object
CreateFdwStmt: func_options options
AlterFdwStmt: func_options options
CreateForeignServerStmt: options
AlterForeignServerStmt: options
CreateForeignTableStmt: base:CreateStmt options
CreateUserMappingStmt: user:RoleSpec options
AlterUserMappingStmt: user:RoleSpec options
DropUserMappingStmt: user:RoleSpec
ImportForeignSchemaStmt: table_list options
CreatePolicyStmt: table:RangeVar roles qual with_check
AlterPolicyStmt: table:RangeVar roles qual with_check
CreateAmStmt: handler_name
CreateTrigStmt: relation:RangeVar funcname args columns whenClause transitionRels constrrel:RangeVar
CreateEventTrigStmt: whenclause funcname
AlterEventTrigStmt:
CreatePLangStmt: plhandler plinline plvalidator
CreateRoleStmt: options
AlterRoleStmt: role:RoleSpec options
AlterRoleSetStmt: role:RoleSpec setstmt:VariableSetStmt
DropRoleStmt: roles
CreateSeqStmt: sequence:RangeVar options
AlterSeqStmt: sequence:RangeVar options
DefineStmt: defnames args definition
CreateDomainStmt: domainname typeName:TypeName collClause:CollateClause constraints
CreateOpClassStmt: opclassname opfamilyname datatype:TypeName items
CreateOpClassItem: name:ObjectWithArgs order_family class_args storedtype:TypeName
CreateOpFamilyStmt: opfamilyname
AlterOpFamilyStmt: opfamilyname items
DropStmt: objects
TruncateStmt: relations
CommentStmt: object
SecLabelStmt: object
DeclareCursorStmt: query
ClosePortalStmt:
FetchStmt:
IndexStmt: relation:RangeVar indexParams indexIncludingParams options whereClause excludeOpNames
CreateStatsStmt: defnames stat_types exprs relations
StatsElem: expr
AlterStatsStmt: defnames stxstattarget
CreateFunctionStmt: funcname parameters returnType:TypeName options sql_body
FunctionParameter: argType:TypeName defexpr
AlterFunctionStmt: func:ObjectWithArgs actions
DoStmt: args
CallStmt: funccall:FuncCall
RenameStmt: relation:RangeVar object
AlterObjectDependsStmt: relation:RangeVar object extname:String
AlterObjectSchemaStmt: relation:RangeVar object
AlterOwnerStmt: relation:RangeVar object newowner:RoleSpec
AlterOperatorStmt: opername:ObjectWithArgs options
AlterTypeStmt: typeName options
RuleStmt: relation:RangeVar whereClause actions
NotifyStmt:
ListenStmt:
UnlistenStmt:
TransactionStmt: options
CompositeTypeStmt: typevar:RangeVar coldeflist
CreateEnumStmt: typeName vals
CreateRangeStmt: typeName params
AlterEnumStmt: typeName
ViewStmt: view:RangeVar aliases query options
LoadStmt:
CreatedbStmt: options
AlterDatabaseStmt: options
AlterDatabaseRefreshCollStmt:
AlterDatabaseSetStmt: setstmt:VariableSetStmt
DropdbStmt: options
AlterSystemStmt: setstmt:VariableSetStmt
ClusterStmt: relation:RangeVar params
VacuumStmt: options rels
VacuumRelation: relation:RangeVar va_cols
ExplainStmt: query options
CreateTableAsStmt: query into:IntoClause
RefreshMatViewStmt: relation:RangeVar
CheckPointStmt:
DiscardStmt:
LockStmt: relations
ConstraintsSetStmt: constraints
ReindexStmt: relation:RangeVar params
CreateConversionStmt: conversion_name func_name
CreateCastStmt: sourcetype:TypeName targettype:TypeName func:ObjectWithArgs
CreateTransformStmt: type_name:TypeName fromsql:ObjectWithArgs tosql:ObjectWithArgs
PrepareStmt: argtypes query
ExecuteStmt: params
DeallocateStmt:
DropOwnedStmt: roles
ReassignOwnedStmt: roles newrole:RoleSpec
AlterTSDictionaryStmt: dictname options
AlterTSConfigurationStmt: cfgname tokentype dicts
PublicationTable: relation:RangeVar whereClause columns
PublicationObjSpec: pubtable:PublicationTable
CreatePublicationStmt: options pubobjects
AlterPublicationStmt: options pubobjects
CreateSubscriptionStmt: publication options
AlterSubscriptionStmt: publication options
DropSubscriptionStmt:
"""


def _read(table: str) -> dict[str, dict[str, str]]:
    nodes: dict[str, dict[str, str]] = {}
    fields: dict[str, str] = {}
    for line in table.strip().splitlines():
        if not line.startswith(" "):
            kind, _, line = line.partition(":")
            fields = nodes.setdefault(kind, {})
        for field in line.split():
            name, _, unwrapped = field.partition(":")
            fields[name] = unwrapped or WRAPPED
    return nodes


# kind -> field -> WRAPPED, or the kind of its unwrapped node
FIELDS: Final[Mapping[str, Mapping[str, str]]] = _read(_TABLE)
