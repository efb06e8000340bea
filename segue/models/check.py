"""Runs every model's compiled SQL on empty tables: what the database would refuse, it refuses here, without data."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import duckdb

from segue.identifiers import Normaliser
from segue.models.one_query import beyond_a_query
from segue.models.project import SEGMENT_SCHEMA, BrokenModel, Model, quote
from segue.models.tables import TABLES, create_empty
from segue.scoring import register
from segue.warehouse import Connection

#: Any time will do: there is no data to compare it with.
_SOME_TIME = datetime(2026, 1, 1)  # noqa: DTZ001 — naive UTC, as in the warehouse

#: Of what takes milliseconds, since the tables are empty.
_SECONDS, _MEMORY = 10.0, "1GB"


def empty_lake() -> Connection:
    """An in-memory DuckDB whose default catalog has the warehouse's name, as the compiled SQL expects.

    It can open no file and no other database: what runs in it was written by somebody else.
    """
    con = duckdb.connect(":memory:")
    con.execute("set TimeZone = 'UTC'")
    register(con)
    con.execute("attach ':memory:' as lake")
    con.execute("use lake")
    con.execute("set enable_external_access = false")
    return con


def check(
    models: tuple[Model, ...], source_columns: Mapping[str, Mapping[str, str]], raw_sql: Mapping[str, str]
) -> tuple[BrokenModel, ...]:
    """The models that DuckDB refuses, and the segments that are not lists of people.

    A model that reads a table with unknown columns cannot be checked and passes, and so do its readers.

    Args:
        models: upstream first.
        source_columns: what the project's YAML says about the columns of its sources.
        raw_sql: path → text as the analyst wrote it, for line numbers.
    """
    con = empty_lake()
    con.execute(f"set memory_limit = '{_MEMORY}'; set max_temp_directory_size = '0KiB'")
    Normaliser(b"checked without data").register(con)
    known: set[str] = set()
    for relation, columns in {**source_columns, **TABLES}.items():
        columns = {**columns, **source_columns.get(relation, {})}
        if columns:
            create_empty(con, relation, columns)
            known.add(relation)
    for name in ("as_of", "window_start", "window_end"):
        con.execute(f"set variable {name} = $1::timestamp", [_SOME_TIME])
    broken: dict[str, BrokenModel] = {}
    unchecked: set[str] = set()
    for model in models:
        culprits = [name for name in model.depends_on if name in broken]
        beyond = beyond_a_query(con, model.compiled_sql)
        if beyond:
            broken[model.name] = no_query(model.name, model.path, beyond)
        elif culprits:
            broken[model.name] = depends_on_broken(model.name, model.path, culprits[0])
        elif model.relation in TABLES:
            broken[model.name] = BrokenModel(
                name=model.name,
                path=model.path,
                reason=f"{model.path}: the name {model.relation} belongs to a table of Segue's own.",
                fix="give the file another name",
            )
        elif not known.issuperset(model.sources) or unchecked.intersection(model.depends_on) or not model.compiled_sql:
            unchecked.add(model.name)
        else:
            found = _try(con, model, raw_sql.get(model.path, ""))
            if found is not None:
                broken[model.name] = found
    con.close()
    return tuple(broken.values())


def depends_on_broken(name: str, path: str, culprit: str) -> BrokenModel:
    """What is said of a definition whose only fault is what it reads."""
    return BrokenModel(
        name=name, path=path, reason=f"{path}: it reads {culprit}, which is broken.", fix=f"mend {culprit} first"
    )


def no_query(name: str, path: str, beyond: str) -> BrokenModel:
    """What is said of a definition that would do more than to select rows."""
    return BrokenModel(
        name=name,
        path=path,
        reason=f"{path}: {beyond}.",
        fix="select from ref() and source() alone; what needs more is a macro, which an administrator reviews",
    )


@contextmanager
def _in_time(con: Connection) -> Iterator[None]:
    """Stop what does not end: a recursion, or everything joined with everything."""
    timer = threading.Timer(_SECONDS, con.interrupt)
    timer.start()
    try:
        yield
    except duckdb.InterruptException as error:
        raise duckdb.Error(f"it does not end within {_SECONDS:.0f} s although its tables are empty") from error
    except duckdb.OutOfMemoryException as error:
        raise duckdb.Error(f"it needs more than {_MEMORY} although its tables are empty") from error
    finally:
        timer.cancel()


def _try(con: Connection, model: Model, raw: str) -> BrokenModel | None:
    con.execute(f"create schema if not exists {quote(model.schema)}")
    try:
        # The SQL starts on line 2, so that its line numbers are one less than DuckDB's.
        with _in_time(con):
            con.execute(f"create table {model.quoted} as\n{model.compiled_sql}")
    except duckdb.Error as error:
        return BrokenModel(
            name=model.name,
            path=model.path,
            reason=explain(str(error), model, raw),
            fix="correct the SQL; `segue check` tries it again",
        )
    if model.schema == SEGMENT_SCHEMA:
        columns = [row[0] for row in con.execute(f"describe {model.quoted}").fetchall()]
        if "person_id" not in columns:
            return BrokenModel(
                name=model.name,
                path=model.path,
                reason=f"{model.path}: a segment lists people, but there is no column person_id among "
                f"{', '.join(columns)}.",
                fix="select person_id, one row per member, and optionally a reason",
            )
    return None


def explain(error: str, model: Model, raw: str) -> str:
    """One sentence from DuckDB's message, with the line in the file the analyst edits where it can be told."""
    headline, _, _ = error.partition("\n\n")
    headline = " ".join(headline.split())
    place = re.search(r"^LINE (\d+):", error, re.MULTILINE)
    if place is None:
        return f"{model.path}: {headline}."
    compiled = [line.strip() for line in model.compiled_sql.splitlines()]
    number = int(place.group(1)) - 2
    if not 0 <= number < len(compiled):
        return f"{model.path}: {headline}."
    line = line_in_file(compiled, number, [line.strip() for line in raw.splitlines()])
    where = model.path if line is None else f"{model.path}, line {line}"
    return f"{where}: {headline}; at `{compiled[number]}`."


def line_in_file(compiled: list[str], number: int, raw: list[str]) -> int | None:
    """Where a line of compiled SQL (from 0) stands in the file (from 1); None when that cannot be told.

    Args:
        compiled: its lines, stripped.
        raw: the file's, stripped.
    """
    text = compiled[number]
    same = [n for n, line in enumerate(raw, start=1) if line == text]
    if not same:
        same = [n for n, line in enumerate(raw, start=1) if "{{" in line and _could_become(line, text)]
        return same[0] if len(same) == 1 else None
    # The same text several times: the third in the one is the third in the other.
    position = compiled[:number].count(text)
    return same[position] if len(same) == compiled.count(text) else None


def _could_become(line: str, text: str) -> bool:
    literal = [re.escape(part) for part in re.split(r"\{\{.*?\}\}", line)]
    return any(part.strip() for part in literal) and re.fullmatch(".*".join(literal), text) is not None
