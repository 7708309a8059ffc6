"""PostgreSQL's own functions and operators: which do harm, which are known to do none; everything else is unknown.

`DANGEROUS` and `HARMLESS_VOLATILE` are written by hand. The harmless immutable and stable ones, with how many arguments
they take, come from a real server's pg_proc (data/postgres.json, written by scripts/postgres-catalog): a call with another
number of arguments is not that function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _named(effects: str, names: str) -> dict[str, frozenset[str]]:
    return dict.fromkeys(names.split(), words(effects))


DANGEROUS: Final[Mapping[str, frozenset[str]]] = {
    **_named(
        "server_file_read",
        """pg_read_file pg_read_file_old pg_read_binary_file pg_stat_file pg_ls_dir pg_ls_logdir pg_ls_waldir pg_ls_tmpdir
        pg_ls_archive_statusdir pg_ls_summariesdir pg_ls_logicalsnapdir pg_ls_logicalmapdir pg_ls_replslotdir pg_logdir_ls
        pg_hba_file_rules pg_ident_file_mappings pg_show_all_file_settings""",
    ),
    **_named("server_file_write", "pg_file_write pg_file_rename pg_file_unlink pg_file_sync"),
    **_named("large_object", "lo_open lo_close lo_get loread lo_lseek lo_lseek64 lo_tell lo_tell64"),
    **_named("large_object write", "lo_creat lo_create lo_from_bytea lo_put lowrite lo_truncate lo_truncate64 lo_unlink lo_manage lo_oid"),
    **_named("large_object write server_file_read", "lo_import"),
    **_named("large_object server_file_write", "lo_export"),
    **_named(
        "dynamic_sql",
        """query_to_xml query_to_xmlschema query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema table_to_xml table_to_xmlschema
        table_to_xml_and_xmlschema schema_to_xml schema_to_xmlschema schema_to_xml_and_xmlschema database_to_xml database_to_xmlschema
        database_to_xml_and_xmlschema ts_stat ts_rewrite crosstab crosstab2 crosstab3 crosstab4 connectby xpath_table""",
    ),
    **_named(
        "network dynamic_sql",
        """dblink dblink_exec dblink_open dblink_fetch dblink_send_query dblink_get_result dblink_build_sql_insert
        dblink_build_sql_update dblink_build_sql_delete""",
    ),
    **_named(
        "network",
        """dblink_connect dblink_connect_u dblink_disconnect dblink_close dblink_get_connections dblink_is_busy dblink_error_message
        dblink_cancel_query dblink_current_query dblink_get_notify dblink_get_pkey dblink_fdw_validator postgres_fdw_disconnect
        postgres_fdw_disconnect_all postgres_fdw_get_connections""",
    ),
    **_named(
        "server_control",
        """pg_terminate_backend pg_cancel_backend pg_reload_conf pg_rotate_logfile pg_promote pg_switch_wal pg_create_restore_point
        pg_backup_start pg_backup_stop pg_start_backup pg_stop_backup pg_wal_replay_pause pg_wal_replay_resume pg_log_standby_snapshot
        pg_log_backend_memory_contexts pg_sync_replication_slots pg_copy_logical_replication_slot pg_copy_physical_replication_slot
        pg_create_logical_replication_slot pg_create_physical_replication_slot pg_drop_replication_slot pg_replication_slot_advance
        pg_logical_slot_get_changes pg_logical_slot_get_binary_changes pg_logical_slot_peek_changes
        pg_logical_slot_peek_binary_changes pg_replication_origin_advance pg_replication_origin_create pg_replication_origin_drop
        pg_replication_origin_session_reset pg_replication_origin_session_setup pg_replication_origin_xact_reset
        pg_replication_origin_xact_setup pg_stat_reset pg_stat_reset_backend_stats pg_stat_reset_replication_slot
        pg_stat_reset_shared pg_stat_reset_single_function_counters pg_stat_reset_single_table_counters pg_stat_reset_slru
        pg_stat_reset_subscription_stats pg_nextoid pg_stop_making_pinned_objects binary_upgrade_add_sub_rel_state
        binary_upgrade_create_empty_extension binary_upgrade_logical_slot_has_caught_up binary_upgrade_replorigin_advance
        binary_upgrade_set_missing_value binary_upgrade_set_next_array_pg_type_oid binary_upgrade_set_next_heap_pg_class_oid
        binary_upgrade_set_next_heap_relfilenode binary_upgrade_set_next_index_pg_class_oid
        binary_upgrade_set_next_index_relfilenode binary_upgrade_set_next_multirange_array_pg_type_oid
        binary_upgrade_set_next_multirange_pg_type_oid binary_upgrade_set_next_pg_authid_oid binary_upgrade_set_next_pg_enum_oid
        binary_upgrade_set_next_pg_tablespace_oid binary_upgrade_set_next_pg_type_oid binary_upgrade_set_next_toast_pg_class_oid
        binary_upgrade_set_next_toast_relfilenode binary_upgrade_set_record_init_privs""",
    ),
    **_named("ddl", "pg_import_system_collations pg_extension_config_dump"),
    **_named("write", "pg_restore_relation_stats pg_restore_attribute_stats pg_clear_relation_stats pg_clear_attribute_stats"),
    **_named(
        "maintenance",
        "brin_summarize_new_values brin_summarize_range brin_desummarize_range gin_clean_pending_list pg_prewarm autoprewarm_start_worker",
    ),
    **_named("messaging", "pg_notify pg_logical_emit_message"),
    **_named("sequence", "nextval setval"),
    **_named(
        "lock",
        """pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared
        pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared
        pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared pg_export_snapshot""",
    ),
    **_named("sleep", "pg_sleep pg_sleep_for pg_sleep_until"),
    "set_config": frozenset(),  # by its first argument: rules.sql.settings
}

# volatile only because their value changes, or because of what they leave in the session
HARMLESS_VOLATILE: Final = words(
    """array_sample array_shuffle clock_timestamp current_query currtid2 currval gen_random_uuid lastval pg_available_wal_summaries
    pg_blocking_pids pg_collation_actual_version pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system
    pg_current_logfile pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_collation_actual_version
    pg_database_size pg_get_aios pg_get_backend_memory_contexts pg_get_loaded_modules pg_get_multixact_members
    pg_get_sequence_data pg_get_shmem_allocations pg_get_shmem_allocations_numa pg_get_wait_events
    pg_get_wal_replay_pause_state pg_get_wal_resource_managers pg_get_wal_summarizer_state pg_indexes_size pg_is_in_recovery
    pg_is_wal_replay_paused pg_isolation_test_session_is_blocked pg_jit_available pg_last_committed_xact
    pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_lock_status pg_notification_queue_usage
    pg_partition_ancestors pg_partition_tree pg_prepared_xact pg_relation_size pg_replication_origin_progress
    pg_replication_origin_session_is_setup pg_replication_origin_session_progress pg_safe_snapshot_blocking_pids
    pg_sequence_last_value pg_show_replication_origin_status pg_stat_clear_snapshot pg_stat_force_next_flush
    pg_stat_get_backend_io pg_stat_get_backend_wal pg_stat_get_io pg_stat_get_recovery_prefetch
    pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls
    pg_stat_get_xact_function_self_time pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans
    pg_stat_get_xact_tuples_deleted pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated
    pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_newpage_updated pg_stat_get_xact_tuples_returned
    pg_stat_get_xact_tuples_updated pg_stat_have_stats pg_table_size pg_tablespace_size pg_total_relation_size
    pg_wal_summary_contents pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_xact_status random random_normal
    setseed timeofday txid_status uuidv4 uuidv7"""
)

# functions that read whatever they are told to by text
READS_ANYTHING: Final = frozenset(name for name, effects in DANGEROUS.items() if "dynamic_sql" in effects) | {
    "pg_logical_slot_get_changes",
    "pg_logical_slot_get_binary_changes",
    "pg_logical_slot_peek_changes",
    "pg_logical_slot_peek_binary_changes",
}
# views that show files, large objects as rows, and views that are written through functions
RELATION_EFFECTS: Final[Mapping[str, frozenset[str]]] = {
    **_named("server_file_read", "pg_hba_file_rules pg_ident_file_mappings pg_file_settings"),
    **_named("large_object", "pg_largeobject pg_largeobject_metadata"),
}


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a server without extensions holds in pg_catalog. `functions`: name -> fewest and most arguments."""

    functions: Mapping[str, tuple[int, int]]
    row_functions: frozenset[str]
    operators: frozenset[str]
    relations: frozenset[str]
    results: frozenset[str]  # names of the columns that functions give, as rows or as one

    def is_harmless(self, name: str, arguments: int) -> bool:
        """Whether pg_catalog has a function of that name for that many arguments, not a dangerous one."""
        known = self.functions.get(name)
        return known is not None and known[0] <= arguments <= known[1] and name not in DANGEROUS


@cache
def catalog() -> Catalog:
    """The shipped table, read at the first use."""
    table = msgspec.json.decode(files("rules.sql").joinpath("data", "postgres.json").read_bytes())
    return Catalog(
        {name: (least, most) for name, (least, most) in table["functions"].items()},
        frozenset(table["row_functions"]),
        frozenset(table["operators"]),
        frozenset(table["relations"]),
        frozenset(table["results"]),
    )
