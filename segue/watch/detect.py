"""Find anomalies in every KPI series and keep the record of them."""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from segue.errors import SegueError
from segue.warehouse import Connection
from segue.watch.calendar import CalendarEntry, events_of
from segue.watch.dismiss import stricter_where_dismissed
from segue.watch.hourly import judge_hours
from segue.watch.incidents import group_anomalies
from segue.watch.judge import HIGH_SCORE, MEDIUM_SCORE, UNLIKELY_P, Day, Judgement, Memory, discoveries, judge
from segue.watch.prophet import quiet
from segue.watch.record import read_memories, reconcile, write_anomalies, write_forecasts, write_series
from segue.watch.series import Series, last_complete_day, read_series
from segue.watch.tables import SEVERITIES, Anomaly, Grain, Severity, anomalies, anomaly_id, ensure_tables
from segue.watch.weekly import by_week_where_needed
from segue.watch.words import clean, name_of

log = logging.getLogger(__name__)

#: Of the days found, the share that may be chance.
FALSE_DISCOVERY_RATE = 0.02
#: A disturbance continues over this many days without a value.
_BRIDGED_DAYS = 3
_FEW_CASES = 30.0
_SMALL_CHANGE = 0.05
_FEW_PEOPLE = 0.02


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
    calendar: Sequence[CalendarEntry] = (),
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
    memories = read_memories(con, recorded)
    by_day: list[Judgement] = []
    judgements: list[Judgement] = []
    failed = 0
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
        for number, (series, job) in enumerate(zip(everything, jobs, strict=True), start=1):
            memory = memories.get(series.key, Memory())
            try:
                judgement = job.result()
                shown = by_week_where_needed(judgement, first=first, last=last, masked=memory.disturbed)
            except SegueError:  # a setting is wrong, which concerns every series
                raise
            except Exception as error:
                failed += 1
                if failed == len(everything):  # not one series: nothing is watched, which nobody must take for quiet
                    raise
                log.exception("%s could not be judged", name_of(*series.key))
                judgement = _failed(series, memory, error)
                shown = [judgement]
            by_day.append(judgement)
            judgements += shown
            if progress is not None and (number % 10 == 0 or number == len(jobs)):
                progress(f"{number} of {len(jobs)} series watched")

    judgements = stricter_where_dismissed(con, judgements)
    threshold = discoveries([day.p_value for j in judgements for day in j.days], rate=FALSE_DISCOVERY_RATE)
    shares = shares_of_people(everything)
    found = [
        (
            j,
            [
                _anomaly(j, run, threshold, shares.get(j.series.slice), as_of=as_of)
                for run in _runs(j.days, threshold, j.grain)
            ],
        )
        for j in judgements
    ]
    met = reconcile(found, recorded, first=first, last=last, as_of=as_of)
    # Those of the days also where the week is judged: they are what a series is found too small by, day after day.
    write_forecasts(con, by_day, as_of)
    write_series(con, judgements, as_of)
    write_anomalies(con, [*met.new, *met.changed], met.gone)
    hour_count = judge_hours(con, as_of=as_of)
    incident_count = group_anomalies(con, known_until=last)
    return WatchReport(
        series_count=len(everything),
        judged_count=sum(bool(j.days) for j in judgements),
        left_out=tuple((*j.series.key, j.status, j.detail) for j in judgements if not j.days),
        judged_day_count=sum(len(j.days) for j in judgements),
        anomaly_count=len(met.new) + len(met.changed) + met.kept_count,
        new=tuple(sorted(met.new, key=lambda a: (-SEVERITIES.index(a.severity), -a.score, a.kpi, a.slice))),
        changed_count=len(met.changed),
        withdrawn_count=len(met.gone),
        fit_count=sum(j.fit_count for j in judgements),
        by_week_count=sum(j.grain == "week" for j in judgements),
        hour_anomaly_count=hour_count,
        incident_count=incident_count,
        first_date=first,
        last_date=last,
    )


def _failed(series: Series, memory: Memory, error: Exception) -> Judgement:
    """What is said of a series that could not be judged; what is on record of it stays."""
    said = clean(f"{type(error).__name__}: {error}", limit=200).rstrip(".")
    detail = f"Judging it failed, which is a fault of Segue and concerns no other series: {said}."
    return Judgement(series=series, status="failed", detail=detail, learned_since=memory.learned_since)


def shares_of_people(everything: Sequence[Series]) -> dict[str, float]:
    """By slice, the share of the active people that it usually holds; empty when they are not counted."""
    usual = {s.slice: median(p.value for p in s.points[-28:]) for s in everything if s.kpi == "active_people"}
    total = usual.get("all")
    return {slice_: value / total for slice_, value in usual.items()} if total else {}


def _runs(days: Sequence[Day], threshold: float, grain: Grain) -> list[list[Day]]:
    """Found days together with their unlikely neighbours of the same direction, which missing days do not part; or
    found weeks with theirs."""
    apart = 7 if grain == "week" else 1 + _BRIDGED_DAYS
    runs: list[list[Day]] = []
    current: list[Day] = []
    for day in days:
        unlikely = day.p_value <= max(threshold, UNLIKELY_P)
        goes_on = (
            bool(current) and day.direction == current[-1].direction and (day.date - current[-1].date).days <= apart
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

    High: `HIGH_SCORE`, or `MEDIUM_SCORE` over three days. Medium: `MEDIUM_SCORE`, or three days, or a whole week. One
    step less when it rests on fewer than 30 cases, concerns fewer than 2 % of the people, or is a change below 5 %.
    """
    worst = max(run, key=lambda day: day.score)
    is_large, is_long = worst.score >= MEDIUM_SCORE, sum(day.p_value <= threshold for day in run) >= 3
    step = 2 if worst.score >= HIGH_SCORE else is_large + (is_long or grain == "week")
    # What a count rests on is what was expected of it; an outage leaves few.
    expected = series.restore(worst.forecast.middle)
    cases = expected if series.kind == "count" else worst.denominator
    small = abs(worst.value - expected) < _SMALL_CHANGE * abs(expected)
    few_people = share_of_people is not None and share_of_people < _FEW_PEOPLE
    if small or few_people or (cases is not None and cases < _FEW_CASES):
        step -= 1
    return SEVERITIES[max(step, 0)]


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
