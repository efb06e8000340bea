"""What is on record of anomalies: read before a detection, matched with what it found, and written when it differs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta

from segue.clock import to_warehouse
from segue.warehouse import Connection, as_view, insert_rows
from segue.watch.forecast import Forecast
from segue.watch.judge import SHIFT_DAYS, UNLIKELY_P, Judgement, Memory
from segue.watch.tables import COLUMNS, SEVERITIES, Anomaly, day_range
from segue.watch.weekly import SHIFT_WEEKS

Key = tuple[str, str]


def read_memories(con: Connection, recorded: Sequence[Anomaly]) -> dict[Key, Memory]:
    """What earlier detections left, by KPI and slice.

    Args:
        recorded: the anomalies on record, dismissed ones too.
    """
    forecasts: dict[Key, dict[date, Forecast]] = {}
    for kpi, slice_, day, basis in con.execute("select kpi, slice, date, basis from watch.forecasts").fetchall():
        forecasts.setdefault((kpi, slice_), {})[day] = Forecast.from_basis(day, basis)
    disturbed: dict[Key, set[date]] = {}
    for anomaly in recorded:
        # From then on it is the new normal, and is learned from.
        if anomaly.day_count < (7 * SHIFT_WEEKS if anomaly.grain == "week" else SHIFT_DAYS):
            disturbed.setdefault((anomaly.kpi, anomaly.slice), set()).update(
                day_range(anomaly.first_date, anomaly.last_date)
            )
    since = {
        (kpi, slice_): day
        for kpi, slice_, day in con.execute("select kpi, slice, learned_since from watch.series").fetchall()
    }
    return {
        key: Memory(
            forecasts=forecasts.get(key, {}),
            disturbed=frozenset(disturbed.get(key, ())),
            learned_since=since.get(key),
        )
        for key in forecasts.keys() | disturbed.keys() | since.keys()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What was found, beside what was on record."""

    new: list[Anomaly]
    changed: list[Anomaly]  # under the id on record
    gone: list[str]  # ids to withdraw
    kept_count: int  # as they were


def reconcile(
    found: Iterable[tuple[Judgement, Sequence[Anomaly]]],
    recorded: Sequence[Anomaly],
    *,
    first: date,
    last: date,
    as_of: datetime,
) -> Reconciled:
    """Match what was found with what is on record.

    Args:
        found: the anomalies of each series within the judged days.
        recorded: the anomalies on record, dismissed ones too.
        first: the first judged day.
        last: the last judged day.
        as_of: aware UTC; when what is new was detected.
    """
    by_key: dict[tuple[str, str, str], list[Anomaly]] = {}
    for anomaly in recorded:
        by_key.setdefault((anomaly.kpi, anomaly.slice, anomaly.grain), []).append(anomaly)
    new: list[Anomaly] = []
    changed: list[Anomaly] = []
    gone: list[str] = []
    kept = 0
    for judgement, ours in found:
        if not judgement.days:
            continue
        candidates = by_key.get((*judgement.series.key, judgement.grain), [])
        candidates = sorted(candidates, key=lambda a: (a.detected_at, a.first_date))
        days = {day.date: day for day in judgement.days}
        for one in ours:
            match = next((old for old in candidates if _same(old, one)), None)
            if match is None:
                new.append(one)
                continue
            candidates.remove(match)
            grown = _grow(match, one, first=first, last=last, as_of=as_of)
            if grown != match:
                changed.append(grown)
            else:
                kept += 1
            # Two that have grown into one go on under the id of the older.
            swallowed = [old for old in candidates if _same(old, grown) and old.last_date <= grown.last_date]
            gone += [old.anomaly_id for old in swallowed if old.first_date >= grown.first_date]
            candidates = [old for old in candidates if old.anomaly_id not in gone]
        for old in candidates:
            inside = [days[day] for day in day_range(old.first_date, old.last_date) if day in days]
            if old.first_date < first or old.last_date > last or not inside:
                continue
            # The bar moves with what else is found; only a day back in line ends an anomaly.
            if any(day.p_value <= UNLIKELY_P and day.direction == old.direction for day in inside):
                kept += 1
            else:
                gone.append(old.anomaly_id)
    return Reconciled(new=new, changed=changed, gone=gone, kept_count=kept)


def _same(old: Anomaly, found: Anomaly) -> bool:
    """Whether they overlap, or one goes on where the other ended."""
    day = timedelta(days=1)
    return (
        old.direction == found.direction
        and old.first_date <= found.last_date + day
        and found.first_date <= old.last_date + day
    )


def _grow(old: Anomaly, found: Anomaly, *, first: date, last: date, as_of: datetime) -> Anomaly:
    """The recorded anomaly with what is known now; what lies outside the judged days is kept."""
    worst = old if old.score > found.score and not first <= old.worst_date <= last else found
    severity = max(old.severity, found.severity, key=SEVERITIES.index) if old.first_date < first else found.severity
    return replace(
        worst,
        anomaly_id=old.anomaly_id,
        first_date=old.first_date if old.first_date < first else found.first_date,
        last_date=old.last_date if old.last_date > last else found.last_date,
        severity=severity,
        # A backfill of an earlier day finds it earlier.
        detected_at=min(old.detected_at, as_of),
    )


def _at(day: date) -> datetime:
    return datetime.combine(day, time())


def write_forecasts(con: Connection, judgements: Iterable[Judgement], as_of: datetime) -> None:
    """Keep the forecasts that were made anew."""
    rows = []
    for judgement in judgements:
        for forecast in judgement.forecasts:
            expected, lower, upper = forecast.band(judgement.series)
            band = (expected, lower, upper)
            rows.append((*judgement.series.key, forecast.day, *band, to_warehouse(as_of), forecast.basis()))
    if not rows:
        return
    columns = COLUMNS["forecasts"]
    # All of them in one statement: each statement writes a file.
    with as_view(con, columns, rows) as view:
        con.execute(
            f"delete from watch.forecasts old using {view} new "
            "where old.kpi = new.kpi and old.slice = new.slice and old.date = new.date"
        )
    insert_rows(con, "watch.forecasts", columns, rows)


def write_series(con: Connection, judgements: Iterable[Judgement], as_of: datetime) -> None:
    """Say of each series whether it was judged, and why not; nothing when all is as before."""
    rows = [
        (
            *j.series.key,
            j.status,
            j.detail,
            len(j.series.points),
            to_warehouse(as_of),
            j.days[0].date if j.days else None,
            j.days[-1].date if j.days else None,
            j.learned_since,
            j.detectable_change,
        )
        for j in judgements
    ]
    before = con.execute(f"select {', '.join(COLUMNS['series'])} from watch.series order by kpi, slice").fetchall()
    if sorted(rows, key=lambda row: row[:2]) == before:
        return
    con.execute("delete from watch.series")
    if rows:
        insert_rows(con, "watch.series", COLUMNS["series"], rows)


def write_anomalies(con: Connection, rows: Sequence[Anomaly], gone: Sequence[str]) -> None:
    """Put these in, in place of those with the same ids, and take out those that are gone."""
    replaced = [*gone, *(row.anomaly_id for row in rows)]
    if not replaced:
        return
    con.execute("delete from watch.anomalies where list_contains($1::varchar[], anomaly_id)", [replaced])
    if rows:
        insert_rows(
            con,
            "watch.anomalies",
            COLUMNS["anomalies"],
            [
                (
                    a.anomaly_id, a.kpi, a.slice, _at(a.first_date), _at(a.last_date), a.value, a.expected, a.lower,
                    a.upper, a.severity, a.direction, to_warehouse(a.detected_at), a.worst_date, a.score,
                    a.denominator, a.kind, a.grain,
                )
                for a in rows
            ],
        )  # fmt: skip
