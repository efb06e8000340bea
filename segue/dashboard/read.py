"""What the pages show, from the warehouse: sums only, never a person."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import duckdb

from segue.clock import from_warehouse
from segue.dashboard.svg import Line, Mark
from segue.quality import DataIncident
from segue.warehouse import Connection, Warehouse, has_table
from segue.watch import Anomaly, amount, anomalies, change_of, incidents, period
from segue.watch.series import Point, make_series
from segue.watch.tables import Kind


class Reading:
    """One connection that is kept, since opening one takes longer than any page; one transaction per page.

    Args:
        warehouse: what is read.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._lock = threading.Lock()
        self._con: Connection | None = None

    @contextmanager
    def page(self) -> Iterator[Connection]:
        """One consistent state, the newest one."""
        with self._lock:
            if self._con is None:
                self._con = self._warehouse.connect()
            try:
                self._con.execute("begin")
                yield self._con
                self._con.execute("rollback")
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Open it anew with the next page."""
        if self._con is not None:
            with suppress(duckdb.Error):
                self._con.close()
        self._con = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How old what is shown is."""

    last_day: date | None
    judged_at: datetime | None
    last_event_at: datetime | None


def freshness(con: Connection) -> Freshness:
    """The last whole day of the KPIs, when it was judged, and when the last event came."""
    last_day = judged_at = last_event = None
    if has_table(con, "kpis", "daily"):
        rows = con.execute("select max(date) from kpis.daily where is_complete is not false").fetchall()
        last_day = rows[0][0]
    if has_table(con, "watch", "series"):
        judged_at = con.execute("select max(judged_at) from watch.series").fetchall()[0][0]
    if has_table(con, "raw", "events"):
        last_event = con.execute("select max(received_at) from raw.events").fetchall()[0][0]
    return Freshness(
        last_day=last_day,
        judged_at=from_warehouse(judged_at) if judged_at else None,
        last_event_at=from_warehouse(last_event) if last_event else None,
    )


def messages(con: Connection, data: DataIncident) -> Line | None:
    """Messages by day of the event or source that a fault is about, six weeks before it to two after; None without."""
    lead = data.lead
    if not (lead.event or lead.source) or not has_table(con, "raw", "events"):
        return None
    first, last = data.first_date - timedelta(days=42), data.last_date + timedelta(days=14)
    rows = con.execute(
        """
        select received_at::date as day, count(*) from raw.events
        where received_at >= $1::date and received_at < $2::date + 1
            and ($3 = '' or coalesce(event, type) = $3) and ($4 = '' or coalesce(source, '?') = $4)
        group by all order by day
        """,
        [first, last, lead.event, "" if lead.event else lead.source],
    ).fetchall()
    if not rows:
        return None
    counts = dict(rows)
    # A day on which nothing came has no row, and here that is a zero.
    days = [rows[0][0] + timedelta(days=n) for n in range((max(rows[-1][0], data.last_date) - rows[0][0]).days + 1)]
    mark = Mark(
        first=data.first_date,
        last=data.last_date,
        severity=data.severity,
        label=lead.sentence,
        href=f"/incident/{data.incident_id}",
    )
    return Line(points=[(day, float(counts.get(day, 0))) for day in days], marks=[mark])


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSeries:
    """One series, ready to be drawn."""

    kpi: str
    slice: str
    kind: Kind
    line: Line
    note: str  # why it is not judged; else the smallest change that would be noticed
    anomalies: tuple[Anomaly, ...]
    is_by_week: bool = False  # its days tell nothing one by one

    def unit(self, value: float) -> str:
        return amount(value, kpi=self.kpi, kind=self.kind)


def shown(con: Connection, slice_: str, *, days: int, kpi: str | None = None) -> list[ShownSeries]:
    """The series of one slice, of one KPI or of all, in a few queries whatever their number."""
    if not has_table(con, "kpis", "daily"):
        return []
    newest = con.execute("select max(date) from kpis.daily where is_complete is not false").fetchall()[0][0]
    if newest is None:
        return []
    first = newest - timedelta(days=days - 1)
    wanted = [slice_, first, newest, kpi]
    where = "slice = $1 and date between $2 and $3 and ($4 is null or kpi = $4)"
    rows = con.execute(
        f"""
        select kpi, date::date, value::double, numerator::double, denominator::double from kpis.daily
        where {where} and value is not null and isfinite(value::double) and is_complete is not false order by kpi, date
        """,
        wanted,
    ).fetchall()
    bands: dict[str, list[tuple[date, float, float, float]]] = {}
    notes: dict[str, str] = {}
    weekly: set[str] = set()
    if has_table(con, "watch", "forecasts", "series"):
        query = f"select kpi, date, expected, lower, upper from watch.forecasts where {where} order by kpi, date"
        for name, *row in con.execute(query, wanted).fetchall():
            bands.setdefault(name, []).append((row[0], row[1], row[2], row[3]))
        query = "select kpi, status, detail, detectable_change from watch.series where slice = $1"
        for name, status, detail, change in con.execute(query, [slice_]).fetchall():
            if status == "by_week":
                weekly.add(name)
            if status == "judged" and change is not None:
                notes[name] = f"A change of one day would be noticed from {100 * change:.0f} % on."
            else:
                notes[name] = detail if status in ("judged", "by_week") else f"Not judged. {detail}"
    found = anomalies(con)
    incident_by_anomaly = {a.anomaly_id: i.incident_id for i in incidents(con) for a in i.anomalies}
    by_kpi: dict[str, list[Point]] = {}
    for name, d, value, numerator, denominator in rows:
        by_kpi.setdefault(name, []).append(Point(date=d, value=value, numerator=numerator, denominator=denominator))
    result = []
    for name, points in by_kpi.items():
        mine = tuple(a for a in found if (a.kpi, a.slice) == (name, slice_) and a.last_date >= first)
        marks = [
            Mark(
                first=a.first_date,
                last=a.last_date,
                severity=a.severity,
                label=f"{change_of(a)} {period(a)}",
                href=f"/incident/{incident_by_anomaly.get(a.anomaly_id, '')}",
            )
            for a in mine
        ]
        result.append(
            ShownSeries(
                kpi=name,
                slice=slice_,
                kind=make_series(name, slice_, points).kind,
                line=Line(points=[(p.date, p.value) for p in points], band=bands.get(name, []), marks=marks),
                note=notes.get(name, "Not judged yet."),
                anomalies=mine,
                is_by_week=name in weekly,
            )
        )
    return result


def slices(con: Connection) -> list[str]:
    """What can be chosen: everybody first, then by dimension, the largest of each first."""
    if not has_table(con, "kpis", "daily"):
        return ["all"]
    rows = con.execute(
        """
        select slice from kpis.daily where date > (select max(date) from kpis.daily) - 28
        group by slice
        order by slice <> 'all', split_part(slice, '=', 1),
            sum(coalesce(value, 0)) filter (where kpi = 'sessions') desc, slice
        """
    ).fetchall()
    return [str(row[0]) for row in rows] or ["all"]


def sizes(con: Connection, *, days: int) -> dict[str, list[tuple[date, float]]]:
    """Members of each segment by day."""
    if not has_table(con, "kpis", "daily"):
        return {}
    rows = con.execute(
        """
        select slice, date::date, value from kpis.daily
        where kpi = 'segment_size' and date > (select max(date) from kpis.daily) - $1::int order by 1, 2
        """,
        [days],
    ).fetchall()
    found: dict[str, list[tuple[date, float]]] = {}
    for slice_, d, value in rows:
        found.setdefault(slice_.partition("=")[2], []).append((d, value))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """People who went from one segment to another."""

    largest: tuple[tuple[str, str, int], ...] = ()  # from, to, moves
    flow_count: int = 0  # also of those that are not among the largest
    move_count: int = 0


def flows(con: Connection, *, days: int, most: int = 14) -> Flows:
    """People who left one segment and entered another of its exclusive group at the same moment.

    Segments that do not exclude each other have nothing to do with each other: who leaves one on the day on which they
    enter another has not gone from here to there. What excludes what, the last evaluations say.
    """
    if not has_table(con, "segments", "transitions", "evaluations"):
        return Flows()
    rows = con.execute(
        """
        with groups as (
            select segment, exclusive_group from segments.evaluations
            qualify row_number() over (partition by segment order by as_of desc) = 1
        ), changes as (
            select person_id, segment, change, effective_at, exclusive_group from segments.transitions
            inner join groups using (segment)
            where effective_at > (select max(effective_at) from segments.transitions) - $1::int * interval 1 day
        )
        select gone.segment, come.segment, count(*), count(*) over (), sum(count(*)) over () from changes as gone
        inner join changes as come using (person_id, effective_at, exclusive_group)
        where gone.change = 'exited' and come.change = 'entered' and gone.segment <> come.segment
        group by all order by 3 desc, 1, 2 limit $2
        """,
        [days, most],
    ).fetchall()
    return Flows(
        largest=tuple((a.replace("_", " "), b.replace("_", " "), int(n)) for a, b, n, *_ in rows),
        flow_count=int(rows[0][3]) if rows else 0,
        move_count=int(rows[0][4]) if rows else 0,
    )


def overlap(con: Connection) -> tuple[list[tuple[str, int]], dict[tuple[str, str], int]]:
    """Segments with their members, and how many members two of them share."""
    if not has_table(con, "segments", "memberships"):
        return [], {}
    rows = con.execute(
        """
        with now as (select distinct person_id, segment from segments.memberships where exited_at is null)
        select a.segment, b.segment, count(*)
        from now as a inner join now as b on a.person_id = b.person_id group by all
        """
    ).fetchall()
    pairs = {(a, b): int(n) for a, b, n in rows}
    names = sorted(((a, n) for (a, b), n in pairs.items() if a == b), key=lambda pair: (-pair[1], pair[0]))
    return names, pairs
