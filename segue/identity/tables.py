"""The tables of the schema `identity`, and how rows get into them: only differences are written."""

from segue.warehouse import Connection, scalar

TABLES = {
    "identifiers": "identifier_type varchar, identifier_value varchar, person_id varchar, first_seen_at timestamp, "
    "last_seen_at timestamp, assigned_at timestamp, component_id varchar",
    "merges": "merge_id varchar, merged_at timestamp, from_person_id varchar, into_person_id varchar, rule varchar, "
    "left_type varchar, left_value varchar, right_type varchar, right_value varchar, evidence varchar, "
    "recorded_at timestamp",
    "refused": "left_type varchar, left_value varchar, right_type varchar, right_value varchar, rule varchar, "
    "reason varchar, detail varchar, seen_at timestamp, link_count bigint, refused_at timestamp",
    "aliases": "alias_id varchar, person_id varchar, known_at timestamp",
    "decisions": "decision_id varchar, decided_at timestamp, decided_by varchar, kind varchar, left_type varchar, "
    "left_value varchar, right_type varchar, right_value varchar, rule varchar, person_id varchar, note varchar",
    "probable_links": "left_type varchar, left_value varchar, right_type varchar, right_value varchar, "
    "left_person_id varchar, right_person_id varchar, kind varchar, score double, precision double, as_of timestamp",
    "state": "as_of timestamp, load_id bigint, received_at timestamp, definition varchar, person_count bigint, "
    "largest bigint",
}

#: What nobody could make again from the events.
_KEPT = ("decisions",)


def ensure_tables(con: Connection) -> None:
    """Create the schema `identity` and its tables where they are missing; a table of an older form is made anew."""
    con.execute("create schema if not exists identity")
    rows = con.execute(
        "select table_name, string_agg(column_name || ' ' || lower(data_type), ', ' order by ordinal_position)"
        " from information_schema.columns where table_schema = 'identity' and table_catalog = current_database()"
        " group by table_name"
    ).fetchall()
    present = dict(rows)
    is_old = any(name in present and present[name] != columns for name, columns in TABLES.items())
    for table, columns in TABLES.items():
        if table in present and is_old and table not in _KEPT:
            con.execute(f"drop table identity.{table}")
        if table not in present or (is_old and table not in _KEPT):
            con.execute(f"create table identity.{table} ({columns})")


def replace_rows(
    con: Connection, table: str, rows: str, *, key: str, keeps: str, scope: str = "true"
) -> tuple[int, int]:
    """Make the rows of `scope` be those of the relation `rows`, writing only what differs.

    Args:
        table: of the schema identity.
        rows: name of a relation with all its columns.
        key: columns that tell its rows apart, never null.
        keeps: a column that does not count as a difference: when a row was written.
        scope: condition on the table.

    Returns:
        Rows written, rows removed for good.
    """
    if not scalar(con, f"select count(*) from {rows}") and not scalar(con, f"select count(*) from identity.{table}"):
        return 0, 0
    columns = [part.split()[0] for part in TABLES[table].split(", ")]
    told = ", ".join(name for name in columns if name != keeps)
    con.execute(f"create or replace temp table kept_now as select {told} from identity.{table} where {scope}")
    con.execute(f"create or replace temp table news_now as select {told} from {rows} except from kept_now")
    con.execute(f"create or replace temp table stale_now as from kept_now except select {told} from {rows}")
    written = scalar(con, "select count(*) from news_now")
    removed = scalar(con, f"select count(*) from (select {key} from stale_now except select {key} from news_now)")
    if scalar(con, "select count(*) from stale_now"):
        con.execute(f"delete from identity.{table} where ({key}) in (select ({key}) from stale_now)")
    if written:
        con.execute(
            f"insert into identity.{table} by name select r.* from {rows} r"
            f" where ({key}) in (select ({key}) from news_now)"
        )
    con.execute("drop table kept_now; drop table news_now; drop table stale_now")
    return written, removed
