"""Examples to learn from: what was known of people at past dates, and what became of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segue.clock import from_warehouse
from segue.errors import DefinitionError
from segue.models import Evaluator, Project, Stitch
from segue.models.project import quote
from segue.propensity.declarations import FEATURES, Propensity
from segue.warehouse import Connection

Floats = npt.NDArray[np.float64]

#: Dates that people are asked about at: one a week, so many.
CUTOFFS = 8
STEP_DAYS = 7

#: History that features need before the first date.
HISTORY_DAYS = 21

#: With more people, so many are looked at: chosen by a hash of their id, so always the same.
MOST_PEOPLE = 50_000

#: Columns by which fairness is looked at.
GROUPS = ("country", "last_platform", "first_channel")


@dataclass(frozen=True, kw_only=True)
class Examples:
    """People at past dates; one row per person and date."""

    propensity: Propensity
    cutoffs: tuple[datetime, ...]  # dates asked about, ascending, aware
    matrix: Floats  # rows × features of the propensity; NaN is missing
    labels: npt.NDArray[np.bool_]  # what became of it, when the horizon was over
    at: npt.NDArray[np.int64]  # place in `cutoffs`
    people: npt.NDArray[np.int64]  # a number for each person
    groups: dict[str, list[str]]  # column → value per row

    @property
    def data_hash(self) -> str:
        """Changes with any figure; not with the order in which people were read."""
        order = np.lexsort([*self.matrix.T[::-1], self.at])
        digest = hashlib.sha256()
        for part in (self.matrix[order], self.labels[order], self.at[order]):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:16]


def dates(first: datetime | None, *, as_of: datetime, horizon_days: int, count: int = CUTOFFS) -> tuple[datetime, ...]:
    """The dates to ask about, ascending: the latest is one horizon ago, the others weeks before.

    Args:
        first: when the history begins.
    """
    if first is None:
        return ()
    latest = as_of - timedelta(days=horizon_days)
    found = [latest - timedelta(days=STEP_DAYS * n) for n in range(count)]
    return tuple(sorted(t for t in found if t >= first + timedelta(days=HISTORY_DAYS)))


def history_start(con: Connection) -> datetime | None:
    """When the first message was received; None when there is none."""
    try:
        row = con.execute("select min(received_at) from raw.events").fetchone()
    except duckdb.CatalogException:
        return None
    return None if row is None or row[0] is None else from_warehouse(row[0])


def examples(
    project: Project,
    con: Connection,
    wanted: Sequence[Propensity],
    *,
    as_of: datetime,
    stitch: Stitch | None = None,
    most_people: int = MOST_PEOPLE,
) -> dict[str, Examples]:
    """What was known of people at past dates: the models run as of each, on what had been received by then.

    A person is found again at the end of the horizon by any identifier, so that a merge meanwhile does not lose them.

    Args:
        con: the warehouse.
        wanted: as declared.
        as_of: the end of the last horizon.
        stitch: makes the identity tables as of a time; None: `segue.identity`, by the project's rules.

    Returns:
        By name of the propensity; none of a propensity for which the history is too short.

    Raises:
        DefinitionError: when a feature is no column of marts.person_features, or the models cannot be run.
    """
    from segue.identity import stitcher_of  # loads scipy

    first = history_start(con)
    asked = {p.name: dates(first, as_of=as_of, horizon_days=p.horizon_days) for p in wanted}
    wanted = [p for p in wanted if asked[p.name]]
    if not wanted:
        return {}
    ends = {t + timedelta(days=p.horizon_days) for p in wanted for t in asked[p.name]}
    times = sorted(ends.union(*(asked[p.name] for p in wanted)))
    names = [p.name for p in wanted]
    places = {time: number for number, time in enumerate(times)}
    found = {}
    with duckdb.connect(":memory:") as scratch:
        with Evaluator(
            project,
            con,
            until=as_of,
            stitch=stitch or stitcher_of(con, project.rules),
            targets=[FEATURES, *names],
            events=_events(con, most_people),
        ) as past:
            for number, time in enumerate(times):
                state = past.at(time)
                failed = next((f"{n}: {why}" for n, why in state.failed.items() if n in (FEATURES, *names)), None)
                if failed is not None:
                    raise DefinitionError(f"features of {time:%Y-%m-%d} cannot be made: {failed}", fix="`segue check`")
                _keep(scratch, state.con, number, project, wanted)
        for p in wanted:
            pairs = [(places[t], places[t + timedelta(days=p.horizon_days)]) for t in asked[p.name]]
            found[p.name] = _examples(scratch, p, asked[p.name], pairs)
    return found


def _events(con: Connection, most_people: int) -> str:
    """The messages to look at: all, or those of a share of people."""
    try:
        row = con.execute("select count(distinct person_id) from identity.identifiers").fetchone()
    except duckdb.CatalogException:
        row = None
    people = int(row[0]) if row else 0
    if people <= most_people:
        return "select * from raw.events"
    parts = -(-people // most_people)
    return (
        "select e.* from raw.events e semi join intermediate.int_events i"
        f" on i.message_id = e.message_id and hash(i.person_id) % {parts} = 0"
    )


def _keep(scratch: Connection, con: Connection, number: int, project: Project, wanted: Sequence[Propensity]) -> None:
    """Put what is known at one time aside."""
    relation = project.by_name[FEATURES].quoted
    there = {row[0] for row in con.execute(f"describe {relation}").fetchall()}
    features = list(dict.fromkeys(f for p in wanted for f in p.features))
    for p in wanted:
        unknown = next((f for f in p.features if f not in there), None)
        if unknown is not None:
            raise DefinitionError(
                f"propensity {p.name} ({p.path}): marts.person_features has no column {unknown!r}",
                fix="correct the name, or take it out of `features`",
            )
    joins = "".join(
        f" left join {project.by_name[p.name].quoted} d{n} on d{n}.person_id = f.person_id"
        for n, p in enumerate(wanted)
    )
    columns = ", ".join(f"f.{quote(c)}::double as {quote(c)}" for c in features)
    groups = "".join(f", f.{quote(g)}::varchar as {quote(f'group {g}')}" for g in GROUPS if g in there)
    told = "".join(
        f", coalesce(d{n}.is_eligible, false) as {quote(f'eligible {p.name}')},"
        f" d{n}.is_success as {quote(f'success {p.name}')}"
        for n, p in enumerate(wanted)
    )
    rows = con.execute(f"select f.person_id, {columns}{groups}{told} from {relation} f{joins}").to_arrow_table()
    ids = con.execute("select identifier_type, identifier_value, person_id from identity.identifiers").to_arrow_table()
    for name, table in (("people", rows), ("ids", ids)):
        scratch.register("arriving", table)
        scratch.execute(f"create table {name}_{number} as from arriving")
        scratch.unregister("arriving")


def _examples(
    scratch: Connection, p: Propensity, asked: Sequence[datetime], pairs: Sequence[tuple[int, int]]
) -> Examples:
    columns = ", ".join(f"b.{quote(f)}" for f in p.features)
    there = {row[0] for row in scratch.execute(f"describe people_{pairs[0][0]}").fetchall()}
    groups = [g for g in GROUPS if f"group {g}" in there]
    listed = "".join(f", b.{quote(f'group {g}')}" for g in groups)
    parts = [
        f"""
        select {n} as cutoff, b.person_id, a.{quote(f"success {p.name}")} as is_success, {columns}{listed}
        from people_{before} b
        join (
            select x.person_id, max(y.person_id) as later_id
            from ids_{before} x join ids_{after} y using (identifier_type, identifier_value) group by x.person_id
        ) i on i.person_id = b.person_id
        join people_{after} a on a.person_id = i.later_id
        where b.{quote(f"eligible {p.name}")} and a.{quote(f"success {p.name}")} is not null
        """
        for n, (before, after) in enumerate(pairs)
    ]
    table = scratch.execute(" union all ".join(parts) + " order by 1, 2").to_arrow_table()
    matrix = (
        np.column_stack([table[f].to_numpy() for f in p.features]) if table.num_rows else np.empty((0, len(p.features)))
    )
    matrix = np.where(np.isfinite(matrix), matrix, np.nan)
    people = table["person_id"].combine_chunks().dictionary_encode()
    return Examples(
        propensity=p,
        cutoffs=tuple(asked),
        matrix=matrix,
        labels=table["is_success"].to_numpy().astype(bool),
        at=table["cutoff"].to_numpy().astype(np.int64),
        people=(people.indices if isinstance(people, pa.DictionaryArray) else people).to_numpy().astype(np.int64),
        groups={g: [v or "unknown" for v in table[f"group {g}"].to_pylist()] for g in groups},
    )
