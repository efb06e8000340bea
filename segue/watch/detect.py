"""Find anomalies in every KPI series and keep the record of them."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from statistics import median

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from segue.clock import to_warehouse
from segue.warehouse import Connection, as_view, insert_rows
from segue.watch.calendar import Known, events_of
from segue.watch.dismiss import stricter_where_dismissed
from segue.watch.forecast import Forecast, quiet
from segue.watch.hourly import judge_hours
from segue.watch.incidents import group_anomalies
from segue.watch.judge import Day, Judgement, Memory, discoveries, judge
from segue.watch.series import Series, last_complete_day, read_series
from segue.watch.tables import SEVERITIES, Anomaly, Direction, Grain, Severity, anomalies, day_range, ensure_tables
from segue.watch.weekly import by_week_where_needed

#: Of the days found, the share that may be chance.
FALSE_DISCOVERY_RATE = 0.02
#: A day next to a found one belongs to the same anomaly when this unlikely by itself.
_NEIGHBOUR_P = 0.01
#: A disturbance continues over this many days without a value.
_BRIDGED_DAYS = 3
#: Longer ones are the new normal, and are learned from.
_LONGEST_MASKED_DAYS = 13
_FEW_CASES = 30.0
_SMALL_CHANGE = 0.05
_FEW_PEOPLE = 0.02

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchReport:
    """What one detection saw and wrote."""

    series_count: int
    judged_count: int
    left_out: tuple[tuple[str, str, str, str], ...]  # kpi, slice, status, sentence
    judged_day_count: int
    anomaly_count: int  # on record that touch the judged window
    new: tuple[Anomaly, ...]
    changed_count: int  # grew, or got another value
    withdrawn_count: int  # late data put them back in line
    fit_count: int
    by_week_count: int  # series too small for a day
    hour_anomaly_count: int  # of the last two days
    incident_count: int  # open or touched by the judged window
    first_date: date
    last_date: date


def detect(
    con: Connection,
    *,
    as_of: datetime,
    country: str,
    judge_days: int = 28,
    calendar: Sequence[Known] = (),
    progress: Callable[[str], None] | None = None,
) -> WatchReport:
    """Judge the last complete days of every series of `kpis.daily` and record what is out of line.

    Writes `watch.forecasts`, `watch.series` and `watch.anomalies`, and nothing at all when nothing has changed
    since. A week is judged by a forecast made from the days before it; forecasts are kept and made again when
    the days they learned from have moved. The id of an anomaly depends on KPI, slice, direction and first day,
    and stays when the anomaly grows.

    Args:
        con: a connection inside a write transaction.
        as_of: aware UTC; days that are not over then are neither judged nor learned from.
        country: ISO 3166 code for the holidays; empty for none.
        judge_days: how many of the last complete days to judge, at least 1.
        calendar: what is known to happen; its events are expected.
        progress: called with a sentence now and then.

    Raises:
        WarehouseError: when `kpis.daily` does not exist.
        BadSettingError: when the country is unknown.
    """
    ensure_tables(con)
    last = last_complete_day(as_of)
    first = last - timedelta(days=judge_days - 1)
    everything = read_series(con, as_of=as_of)
    recorded = anomalies(con, with_dismissed=True)
    memories = _memories(con, recorded)
    by_day: list[Judgement] = []
    judgements: list[Judgement] = []
    # One thread for linear algebra: on systems this small, threads waiting for each other take a hundred times longer.
    with quiet(), threadpool_limits(1), ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        jobs = [
            pool.submit(
                judge,
                series,
                memories.get(series.key, Memory()),
                first=first,
                last=last,
                country=country,
                events=events_of(calendar, series.kpi),
            )
            for series in everything
        ]
        for number, job in enumerate(jobs, start=1):
            judgement = job.result()
            by_day.append(judgement)
            disturbed = memories.get(judgement.series.key, Memory()).disturbed
            judgements += by_week_where_needed(judgement, first=first, last=last, masked=disturbed)
            if progress is not None and (number % 10 == 0 or number == len(jobs)):
                progress(f"{number} of {len(jobs)} series watched")

    judgements = stricter_where_dismissed(con, judgements)
    threshold = discoveries([day.p_value for j in judgements for day in j.days], rate=FALSE_DISCOVERY_RATE)
    shares = shares_of_people(everything)
    new, changed, gone, kept = _reconcile(
        judgements, recorded, shares, threshold=threshold, first=first, last=last, as_of=as_of
    )
    # Those of the days also where the week is judged: they are what a series is found too small by, day after day.
    _write_forecasts(con, by_day, as_of)
    _write_series(con, judgements, as_of)
    _write_anomalies(con, [*new, *changed], gone)
    hour_count = judge_hours(con, as_of=as_of)
    incident_count = group_anomalies(con, known_until=last)
    return WatchReport(
        series_count=len(everything),
        judged_count=sum(bool(j.days) for j in judgements),
        left_out=tuple((*j.series.key, j.status, j.detail) for j in judgements if not j.days),
        judged_day_count=sum(len(j.days) for j in judgements),
        anomaly_count=len(new) + len(changed) + kept,
        new=tuple(sorted(new, key=lambda a: (-SEVERITIES.index(a.severity), -a.score, a.kpi, a.slice))),
        changed_count=len(changed),
        withdrawn_count=len(gone),
        fit_count=sum(j.fit_count for j in judgements),
        by_week_count=sum(j.grain == "week" for j in judgements),
        hour_anomaly_count=hour_count,
        incident_count=incident_count,
        first_date=first,
        last_date=last,
    )


def shares_of_people(everything: Sequence[Series]) -> dict[str, float]:
    """By slice, the share of the active people that it usually holds; empty when they are not counted."""
    usual = {s.slice: median(p.value for p in s.points[-28:]) for s in everything if s.kpi == "active_people"}
    total = usual.get("all")
    return {slice_: value / total for slice_, value in usual.items()} if total else {}


def anomaly_id(kpi: str, slice_: str, direction: Direction, first: date) -> str:
    """The same for the same anomaly, on any machine."""
    text = "\x1f".join((kpi, slice_, direction, first.isoformat()))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _memories(con: Connection, recorded: Sequence[Anomaly]) -> dict[Key, Memory]:
    forecasts: dict[Key, dict[date, Forecast]] = {}
    for kpi, slice_, day, basis in con.execute("select kpi, slice, date, basis from watch.forecasts").fetchall():
        forecasts.setdefault((kpi, slice_), {})[day] = Forecast.from_basis(day, basis)
    disturbed: dict[Key, set[date]] = {}
    for anomaly in recorded:
        if anomaly.day_count <= _LONGEST_MASKED_DAYS:
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


def _runs(days: Sequence[Day], threshold: float) -> list[list[Day]]:
    """Found days together with their unlikely neighbours of the same direction; missing days do not part them."""
    runs: list[list[Day]] = []
    current: list[Day] = []
    for day in days:
        unlikely = day.p_value <= max(threshold, _NEIGHBOUR_P)
        goes_on = (
            bool(current)
            and day.direction == current[-1].direction
            and (day.date - current[-1].date).days <= 1 + _BRIDGED_DAYS
        )
        if current and not (unlikely and goes_on):
            runs.append(current)
            current = []
        if unlikely:
            current.append(day)
    runs.append(current)
    return [run for run in runs if any(day.p_value <= threshold for day in run)]


def _severity(
    run: Sequence[Day], threshold: float, series: Series, share_of_people: float | None, grain: Grain
) -> Severity:
    """From the size of the worst day in standard deviations, the days it lasted, and how much it rests on.

    High: 5.5, or 4.2 over three days. Medium: 4.2, or three days, or a whole week. One step less when it rests on
    fewer than 30 cases, concerns fewer than 2 % of the people, or is a change below 5 %. Chance alone reaches 4.2
    once in 37,000 judged days.
    """
    worst = max(run, key=lambda day: day.score)
    is_large, is_long = worst.score >= 4.2, sum(day.p_value <= threshold for day in run) >= 3
    step = 2 if worst.score >= 5.5 else is_large + (is_long or grain == "week")
    # What a count rests on is what was expected of it; an outage leaves few.
    expected = series.restore(worst.forecast.middle)
    cases = expected if series.kind == "count" else worst.denominator
    small = abs(worst.value - expected) < _SMALL_CHANGE * abs(expected)
    few_people = share_of_people is not None and share_of_people < _FEW_PEOPLE
    if small or few_people or (cases is not None and cases < _FEW_CASES):
        step -= 1
    return SEVERITIES[max(step, 0)]


def _reconcile(
    judgements: Sequence[Judgement],
    recorded: Sequence[Anomaly],
    shares: Mapping[str, float],
    *,
    threshold: float,
    first: date,
    last: date,
    as_of: datetime,
) -> tuple[list[Anomaly], list[Anomaly], list[str], int]:
    """Match what was found with what is on record: new ones, changed ones, ids to withdraw, number unchanged."""
    by_key: dict[tuple[str, str, str], list[Anomaly]] = {}
    for anomaly in recorded:
        by_key.setdefault((anomaly.kpi, anomaly.slice, anomaly.grain), []).append(anomaly)
    new: list[Anomaly] = []
    changed: list[Anomaly] = []
    gone: list[str] = []
    kept = 0
    for judgement in judgements:
        if not judgement.days:
            continue
        key = (*judgement.series.key, judgement.grain)
        share = shares.get(judgement.series.slice)
        candidates = sorted(by_key.get(key, []), key=lambda a: (a.detected_at, a.first_date))
        days = {day.date: day for day in judgement.days}
        for run in _runs(judgement.days, threshold):
            found = _anomaly(judgement, run, threshold, share, as_of=as_of)
            match = next((old for old in candidates if _same(old, found)), None)
            if match is None:
                new.append(found)
                continue
            candidates.remove(match)
            grown = _grow(match, found, first=first, last=last, as_of=as_of)
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
            if any(day.p_value <= _NEIGHBOUR_P and day.direction == old.direction for day in inside):
                kept += 1
            else:
                gone.append(old.anomaly_id)
    return new, changed, gone, kept


def _same(old: Anomaly, found: Anomaly) -> bool:
    """Whether they overlap, or one goes on where the other ended."""
    day = timedelta(days=1)
    return (
        old.direction == found.direction
        and old.first_date <= found.last_date + day
        and found.first_date <= old.last_date + day
    )


def _anomaly(
    judgement: Judgement, run: Sequence[Day], threshold: float, share: float | None, *, as_of: datetime
) -> Anomaly:
    worst = max(run, key=lambda day: day.score)
    kpi, slice_ = judgement.series.key
    expected, lower, upper = worst.forecast.band(judgement.series, worst.denominator)
    first_date = run[0].date - timedelta(days=6 if judgement.grain == "week" else 0)
    return Anomaly(
        anomaly_id=anomaly_id(kpi, slice_, worst.direction, first_date),
        kpi=kpi,
        slice=slice_,
        first_date=first_date,
        last_date=run[-1].date,
        value=worst.value,
        expected=expected,
        lower=lower,
        upper=upper,
        severity=_severity(run, threshold, judgement.series, share, judgement.grain),
        direction=worst.direction,
        detected_at=as_of,
        worst_date=worst.date,
        score=worst.score,
        denominator=worst.denominator,
        kind=judgement.series.kind,
        grain=judgement.grain,
    )


def _grow(old: Anomaly, found: Anomaly, *, first: date, last: date, as_of: datetime) -> Anomaly:
    """The recorded anomaly with what is known now; what lies outside the judged days is kept."""
    worst = old if old.score > found.score and not first <= old.worst_date <= last else found
    severity = max(old.severity, found.severity, key=SEVERITIES.index) if old.first_date < first else found.severity
    return Anomaly(
        anomaly_id=old.anomaly_id,
        kpi=old.kpi,
        slice=old.slice,
        first_date=old.first_date if old.first_date < first else found.first_date,
        last_date=old.last_date if old.last_date > last else found.last_date,
        value=worst.value,
        expected=worst.expected,
        lower=worst.lower,
        upper=worst.upper,
        severity=severity,
        direction=old.direction,
        # A backfill of an earlier day finds it earlier.
        detected_at=min(old.detected_at, as_of),
        worst_date=worst.worst_date,
        score=worst.score,
        denominator=worst.denominator,
        kind=worst.kind,
        grain=old.grain,
    )


def _at(day: date) -> datetime:
    return datetime.combine(day, time())


def _write_forecasts(con: Connection, judgements: Iterable[Judgement], as_of: datetime) -> None:
    rows = []
    for judgement in judgements:
        for forecast in judgement.forecasts:
            expected, lower, upper = forecast.band(judgement.series)
            band = (expected, lower, upper)
            rows.append((*judgement.series.key, forecast.day, *band, to_warehouse(as_of), forecast.basis()))
    if not rows:
        return
    columns = ("kpi", "slice", "date", "expected", "lower", "upper", "fitted_at", "basis")
    # All of them in one statement: each statement writes a file.
    with as_view(con, columns, rows) as view:
        con.execute(
            f"delete from watch.forecasts old using {view} new "
            "where old.kpi = new.kpi and old.slice = new.slice and old.date = new.date"
        )
    insert_rows(con, "watch.forecasts", columns, rows)


_SERIES_COLUMNS = (
    "kpi", "slice", "status", "detail", "point_count", "judged_at", "first_judged_date", "last_judged_date",
    "learned_since", "detectable_change",
)  # fmt: skip


def _write_series(con: Connection, judgements: Iterable[Judgement], as_of: datetime) -> None:
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
    before = con.execute(f"select {', '.join(_SERIES_COLUMNS)} from watch.series order by kpi, slice").fetchall()
    if sorted(rows, key=lambda row: row[:2]) == before:
        return
    con.execute("delete from watch.series")
    if rows:
        insert_rows(con, "watch.series", _SERIES_COLUMNS, rows)


_ANOMALY_COLUMNS = (
    "anomaly_id", "kpi", "slice", "started_at", "ended_at", "value", "expected", "lower", "upper", "severity",
    "direction", "detected_at", "worst_date", "score", "denominator", "kind", "grain",
)  # fmt: skip


def _write_anomalies(con: Connection, rows: Sequence[Anomaly], gone: Sequence[str]) -> None:
    replaced = [*gone, *(row.anomaly_id for row in rows)]
    if not replaced:
        return
    con.execute("delete from watch.anomalies where list_contains($1::varchar[], anomaly_id)", [replaced])
    if rows:
        insert_rows(
            con,
            "watch.anomalies",
            _ANOMALY_COLUMNS,
            [
                (
                    a.anomaly_id, a.kpi, a.slice, _at(a.first_date), _at(a.last_date), a.value, a.expected, a.lower,
                    a.upper, a.severity, a.direction, to_warehouse(a.detected_at), a.worst_date, a.score,
                    a.denominator, a.kind, a.grain,
                )
                for a in rows
            ],
        )  # fmt: skip
