"""Any table of events (CSV, NDJSON, Parquet) → messages of the Segment spec → `raw.events`.

The messageId comes from the content of the row and from how often the same row stood above it in the file. So two
equal rows are two events, and the same file a second time adds nothing, whatever its name and whatever the
mapping says meanwhile.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import orjson

from segue.errors import BadInputError
from segue.events.contracts import load_contracts
from segue.events.ingest import FileReport, IngestReport, Job, run_jobs
from segue.events.landing import look
from segue.events.mapping import FieldMapping
from segue.events.spec import quote
from segue.events.streams import BlockStream, check_whole, first_line
from segue.settings import Settings
from segue.warehouse import Warehouse

_ROWS = 4096
_DELIMITERS = (",", ";", "\t", "|")

_MESSAGE_FIELDS = {
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "previous_id": "previousId",
    "group_id": "groupId",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What an import would do."""

    row_count: int
    event_counts: Mapping[str, int]  # by type and name, the most frequent first
    messages: tuple[str, ...]  # the first ones, as JSON


def import_file(
    warehouse: Warehouse,
    path: Path,
    mapping: FieldMapping,
    *,
    as_of: datetime,
    progress: Callable[[FileReport], None] | None = None,
) -> IngestReport:
    """Import a table of events. Reading it again is allowed and adds nothing.

    Args:
        path: CSV, NDJSON or Parquet, also packed with gzip or zstd.
        as_of: becomes `loaded_at`.

    Returns:
        As `ingest` does: read = loaded + duplicates + quarantined.

    Raises:
        BadInputError: when the file or the mapping cannot be used, naming the line and the fix.
        DefinitionError: when a contract is wrong.
    """
    full = path.expanduser().absolute()
    file = look(full, f"import:{full}")
    check_whole(full)
    contracts = load_contracts(warehouse.settings.dbt_project / "contracts")
    with _Table(full, mapping, warehouse.settings) as table:  # wrong columns are told before anything is locked
        table.check()

    def stream() -> BlockStream:
        return BlockStream().feed(_blocks(full, mapping, warehouse.settings))

    report = run_jobs(
        warehouse,
        [Job(file=file, open=stream)],
        contracts,
        as_of=as_of,
        source=mapping.source,
        progress=progress,
        again=True,
    )
    if report.refused:
        raise BadInputError(next(iter(report.refused.values())))
    return report


def preview(path: Path, mapping: FieldMapping, settings: Settings, *, count: int = 3) -> Preview:
    """What `import_file` would make of a table, without writing anything.

    Raises:
        BadInputError: as `import_file`.
    """
    full = path.expanduser().absolute()
    check_whole(full)
    with _Table(full, mapping, settings) as table:
        table.check()
        table.number()
        messages = tuple(line for (line,) in table.messages(limit=count).fetchall())
        return Preview(row_count=table.row_count(), event_counts=table.event_counts(), messages=messages)


def _blocks(path: Path, mapping: FieldMapping, settings: Settings) -> Iterator[bytes]:
    with _Table(path, mapping, settings) as table:
        table.check()
        table.number()
        answer = table.messages()
        while rows := answer.fetchmany(_ROWS):
            yield "".join(f"{line}\n" for (line,) in rows).encode()


class _Table:
    """Somebody's file, open in a DuckDB of its own."""

    def __init__(self, path: Path, mapping: FieldMapping, settings: Settings) -> None:
        self._path = path
        self._mapping = mapping
        self._settings = settings
        self._kinds: dict[str, str] = {}

    def __enter__(self) -> "_Table":
        spill = self._settings.warehouse_home / "spill"
        self._con = duckdb.connect(
            ":memory:", config={"temp_directory": str(spill), "autoinstall_known_extensions": False}
        )
        self._con.execute("set TimeZone = 'UTC'")
        try:
            self._open()
        except (duckdb.Error, OSError) as error:
            self._con.close()
            raise self._unusable(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._con.close()

    def _open(self) -> None:
        with self._path.open("rb"):  # for a plain message when there is no permission
            pass
        if self._path.stat().st_size == 0:
            raise BadInputError(f"{self._path} is empty", fix="a table needs at least a line with its columns")
        file = quote(str(self._path))
        suffixes = [suffix.lower() for suffix in self._path.suffixes]
        if ".parquet" in suffixes:
            reader = sniffed = f"read_parquet({file})"
        elif any(suffix in (".json", ".ndjson", ".jsonl") for suffix in suffixes):
            reader = sniffed = f"read_json({file}, format = 'auto', sample_size = -1)"
        else:
            # Text as it stands makes the id: what DuckDB takes for a number depends on the rows around it.
            reader = f"read_csv({file}, all_varchar = true, header = true, sample_size = -1)"
            sniffed = f"read_csv({file}, header = true, sample_size = -1)"
        self._kinds = {name: kind for name, kind, *_ in self._con.execute(f"describe from {sniffed}").fetchall()}
        self._con.execute(f"create view given as from {reader}")
        self._is_text = reader != sniffed

    def check(self) -> None:
        """Raises BadInputError when the mapping names a column that is not there, or a row has too many values."""
        try:
            self._mapping.check_columns(self._kinds, self._path)
        except BadInputError:
            if self._is_text:
                self._find_odd_row()
            raise

    def _find_odd_row(self) -> None:
        """When a row of a CSV has more or fewer values than the first, DuckDB sees other columns: name that row."""
        first = first_line(self._path)
        mark = max(_DELIMITERS, key=first.count)
        names = next(csv.reader([first], delimiter=mark), [])
        if len(set(names)) < 2:
            return
        columns = ", ".join(f"{quote(name)}: 'varchar'" for name in names)
        try:
            self._con.execute(
                f"select count(*) from read_csv({quote(str(self._path))}, auto_detect = false, header = true, "
                f"delim = {quote(mark)}, quote = '\"', escape = '\"', columns = {{{columns}}})"
            ).fetchall()
        except duckdb.Error as error:
            raise self._unusable(error) from None

    def number(self) -> None:
        """Read the file: each row with its place, and with the id made from its content."""
        try:
            self._con.execute(
                "create temp table numbered as select row_number() over () as place, given as row from given"
            )
            self._con.execute(
                """
                create temp table named as
                with hashed as (select place, md5(to_json(row)::varchar) as content from numbered)
                select place,
                    'import-' || content || '-' || row_number() over (partition by content order by place) as message_id
                from hashed
                """
            )
        except duckdb.Error as error:
            raise self._unusable(error) from None
        if self._is_text:
            self._keep_leading_zeros()

    def _keep_leading_zeros(self) -> None:
        numbers = [name for name, kind in self._kinds.items() if kind in ("BIGINT", "HUGEINT", "INTEGER", "DOUBLE")]
        for name in numbers:
            query = f"select count(*) from numbered where regexp_matches(row.{_name(name)}, '^[-+]?0[0-9]')"
            if self._con.execute(query).fetchone() != (0,):
                self._kinds[name] = "VARCHAR"

    def row_count(self) -> int:
        row = self._con.execute("select count(*) from named").fetchone()
        assert row is not None
        return int(row[0])

    def event_counts(self) -> dict[str, int]:
        query = f"select {self._type()} || coalesce(' ' || ({self._event()}), '') as what, count(*) as n from numbered"
        return {
            str(what): int(n)
            for what, n in self._con.execute(f"{query} group by what order by n desc, what").fetchall()
        }

    def messages(self, limit: int | None = None) -> duckdb.DuckDBPyConnection:
        """The messages as lines of JSON, in the order of the file."""
        query = (
            f"select to_json({_struct(self._message())})::varchar from numbered join named using (place) order by place"
        )
        return self._con.execute(f"{query} limit {limit}" if limit is not None else query)

    def _message(self) -> dict[str, Any]:
        """The message as a tree: names → SQL, or → trees."""
        columns, is_named = self._mapping.columns, f"({self._type()} = 'page' or {self._type()} = 'screen')"
        moment = self._moment(columns["timestamp"])
        given_id = f"nullif({self._text(columns['message_id'])}, '')" if "message_id" in columns else "null"
        tree: dict[str, Any] = {
            "messageId": f"coalesce({given_id}, message_id)",
            "type": self._type(),
            "event": f"case when {self._type()} = 'track' then {self._event()} end",
            "name": f"case when {is_named} then {self._event()} end",
            "originalTimestamp": moment,
            "timestamp": moment,
            "receivedAt": self._moment(columns["received_at"]) if "received_at" in columns else moment,
            "properties": {name: self._value(column) for name, column in self._properties().items()},
            "traits": {name: self._value(column) for name, column in self._mapping.traits.items()},
            "context": {"library": {"name": "'segue-import'"}},
        }
        for field, name in _MESSAGE_FIELDS.items():
            if field in columns:
                tree[name] = self._text(columns[field])
        for path, column in self._mapping.context.items():
            _put(tree, f"context.{path}", self._value(column))
        for path, value in self._mapping.constants.items():
            _put(tree, path, f"{quote(orjson.dumps(value).decode())}::json")
        if not self._mapping.traits and not tree["traits"]:
            del tree["traits"]
        return {name: value for name, value in tree.items() if value != {}}

    def _properties(self) -> Mapping[str, str]:
        if self._mapping.properties is not None:
            return self._mapping.properties
        used = {*self._mapping.columns.values(), *self._mapping.traits.values(), *self._mapping.context.values()}
        return {name: name for name in self._kinds if name not in used}

    def _text(self, column: str) -> str:
        return f"row.{_name(column)}::varchar"

    def _value(self, column: str) -> str:
        """A column as JSON should have it: numbers and truth values that stand in text become themselves."""
        kind = self._kinds[column]
        if self._is_text and kind in ("BIGINT", "HUGEINT", "INTEGER", "DOUBLE", "BOOLEAN"):
            return f"coalesce(to_json(try_cast(row.{_name(column)} as {kind})), to_json(row.{_name(column)}))"
        return f"row.{_name(column)}"

    def _event(self) -> str:
        column = self._mapping.columns.get("event")
        if column is None:
            return "null::varchar"
        renamed = "".join(f" when {quote(old)} then {quote(new)}" for old, new in self._mapping.rename.items())
        return f"case {self._text(column)}{renamed} else {self._text(column)} end" if renamed else self._text(column)

    def _type(self) -> str:
        if "type" in self._mapping.columns:
            return self._text(self._mapping.columns["type"])
        event = self._text(self._mapping.columns["event"])
        rules = "".join(
            f" when {quote(n)} then {quote(kind)}" for kind, names in self._mapping.types.items() for n in names
        )
        return f"(case {event}{rules} else 'track' end)" if rules else "'track'"

    def _moment(self, column: str) -> str:
        """ISO 8601 in UTC; what cannot be read stays as it is, so that the quarantine shows it."""
        text, zone = self._text(column), quote(self._mapping.timestamp_zone)
        if self._mapping.timestamp_format is not None:
            form = self._mapping.timestamp_format
            parsed = f"try_strptime({text}, {quote(form)})"
            # With %z strptime gives an instant, without it a clock on some wall.
            instant = (
                f"{parsed}::timestamp" if "%z" in form.lower() else f"timezone({zone}, {parsed}::timestamp)::timestamp"
            )
        elif self._kinds[column] == "TIMESTAMP WITH TIME ZONE" and not self._is_text:
            instant = f"row.{_name(column)}::timestamp"
        else:
            has_offset = f"regexp_matches({text}, '([zZ]|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$') and {text} like '%:%'"
            local = f"timezone({zone}, try_cast({text} as timestamp))"
            instant = f"(case when {has_offset} then try_cast({text} as timestamptz) else {local} end)::timestamp"
        return f"coalesce(strftime({instant}, '%Y-%m-%dT%H:%M:%S.%fZ'), {text})"

    def _unusable(self, error: Exception) -> BadInputError:
        text = str(error)
        if isinstance(error, PermissionError):
            return BadInputError(
                f"{self._path}: no permission to read it", fix=f"chmod +r {self._path}, or run as its owner"
            )
        if isinstance(error, FileNotFoundError):
            return BadInputError(f"{self._path} does not exist", fix="check the path")
        if "unicode" in text.lower() or "utf-8" in text.lower() or "utf8" in text.lower():
            return BadInputError(
                f"{self._path} is not UTF-8: {text.splitlines()[0]}",
                fix="iconv -f WINDOWS-1252 -t UTF-8 on it, if that is its encoding",
            )
        said = text.partition("\n\nLINE ")[0]
        lines = [line for line in said.splitlines() if line.strip()]
        return BadInputError(
            f"{self._path} cannot be read as a table: {' '.join(lines[:4])}",
            fix="mend the line that is named"
            if " line" in said.lower()
            else "write it again as CSV, NDJSON or Parquet",
        )


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _put(tree: dict[str, Any], path: str, expression: str) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        below = tree.setdefault(parent, {})
        if not isinstance(below, dict):
            raise BadInputError(
                f"`{path}` of the mapping goes through `{parent}`, which is a single value", fix="rename one of them"
            )
        tree = below
    tree[last] = expression


def _struct(tree: Mapping[str, Any]) -> str:
    entries = (f"{_name(name)}: {_struct(value) if isinstance(value, dict) else value}" for name, value in tree.items())
    return "{" + ", ".join(entries) + "}"
