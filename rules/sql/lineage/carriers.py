"""Functions, operators and casts that only carry a value along: they never fail, wait or give several rows because of what it is.

Whatever else is computed from a masked column could tell about it although its result is masked: by failing
(`1 / (ascii(secret) - 65)`), by sleeping, by how many rows come.
"""

from __future__ import annotations

from typing import Final

from rules.sql.functions import words

CARRIERS: Final = words(
    """
    max min count any_value array_agg string_agg json_agg jsonb_agg json_agg_strict jsonb_agg_strict json_object_agg jsonb_object_agg
    sum avg first_value last_value lag lead
    upper lower initcap substr substring left right btrim ltrim rtrim trim replace translate reverse split_part concat concat_ws
    length char_length character_length octet_length bit_length md5 sha256 sha512 ascii quote_literal quote_nullable quote_ident
    row_to_json to_json to_jsonb array_to_json json_build_array jsonb_build_array json_build_object jsonb_build_object jsonb_pretty
    json_strip_nulls jsonb_strip_nulls json_typeof jsonb_typeof array_to_string array_append array_prepend array_cat
    array_length cardinality coalesce greatest least overlay position strpos to_hex textcat varchar text bpchar
    pg_typeof pg_column_size
    """
)
# how many of their first arguments may come from masked columns: by the others they fail, or give NULL, which nobody hides
CARRIED_ARGUMENTS: Final = {
    **dict.fromkeys(("substring", "substr", "left", "right", "lag", "lead", "array_length", "length", "varchar", "text", "bpchar"), 1),
    **dict.fromkeys(("overlay", "split_part"), 2),
}
# with these a second argument may fail because of what the first is: too long for a length, not of an encoding
ALONE: Final = frozenset({"length", "varchar", "text", "bpchar"})
SUBSCRIPTS: Final = frozenset({"->", "->>", "#>", "#>>"})  # NULL where there is no such member
CARRYING_OPERATORS: Final = frozenset({"||", "->", "->>", "#>", "#>>"})
TEXT_TYPES: Final = frozenset({"text", "varchar", "bpchar", "char", "name", "citext"})
LITERAL_TYPES: Final = TEXT_TYPES | words(
    "int2 int4 int8 numeric float4 float8 bool uuid date time timetz timestamp timestamptz interval bytea inet cidr money oid"
)
ROW_RETURNING: Final = words(
    """
    generate_series generate_subscripts unnest regexp_matches regexp_split_to_table string_to_table json_array_elements
    json_array_elements_text jsonb_array_elements jsonb_array_elements_text json_each json_each_text jsonb_each jsonb_each_text
    json_object_keys jsonb_object_keys json_populate_recordset jsonb_populate_recordset json_to_recordset jsonb_to_recordset
    jsonb_path_query jsonb_path_query_tz aclexplode ts_parse ts_debug ts_token_type
    """
)
# columns of the server's own relations that hold values of other relations, or text of other sessions
LEAKING: Final[dict[str, frozenset[str]]] = {
    "pg_stats": words("most_common_vals histogram_bounds most_common_elems range_bounds_histogram range_length_histogram"),
    "pg_stats_ext": words("most_common_vals most_common_val_nulls"),
    "pg_stats_ext_exprs": words("most_common_vals histogram_bounds most_common_elems range_bounds_histogram"),
    "pg_statistic": words("stavalues1 stavalues2 stavalues3 stavalues4 stavalues5"),
    "pg_statistic_ext_data": words("stxdndistinct stxddependencies stxdmcv stxdexpr"),
    "pg_stat_activity": frozenset({"query"}),
    "pg_largeobject": frozenset({"data"}),
    "pg_attribute": frozenset({"attmissingval"}),
}
# functions that show text of other sessions
LEAKING_FUNCTIONS: Final = frozenset({"pg_stat_get_activity", "pg_stat_get_backend_activity", "pg_mcv_list_items"})
