"""The last two days by the hour, so that an outage is known within hours and not at the end of the day.

What an hour should bring is the mean of the same hour on working days, or on weekends, of the four weeks before the
judged hours; its spread beyond what counting explains comes from those hours as well. Anomalies are runs of found
hours; the false alarms of all hours and series together are controlled as those of days are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from segue.clock import to_warehouse
from segue.warehouse import Connection, has_table, insert_rows
from segue.watch.counts import BetaBinomial, CountLaw, NegativeBinomial
from segue.watch.judge import HIGH_SCORE, discoveries, score_of
from segue.watch.tables import COLUMNS, Direction, Kind, Severity, anomaly_id

_JUDGED_HOURS = 48
_LEARN_DAYS, _LEAST_DAYS = 28, 14
#: Fewer cases than this in the usual hour tell nothing.
_LEAST_CASES = 10.0
#: Of the hours found, the share that may be chance; stricter than for days, since somebody is called at once.
_RATE = 0.005
#: One hour may be anything: a run has at least two, or one that is next to impossible.
_ALONE_SCORE = 6.5
#: Hours of one anomaly lie no further apart.
_APART = timedelta(hours=2)
_LEAST_SPREAD = 0.0025  # of the logarithm, squared: five per cent

_COLUMNS = COLUMNS["anomalies"]
#: One anomaly, as these columns.
_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hour:
    at: datetime  # naive UTC
    count: float
    total: float | None  # of a ratio
    expected: float
    band: tuple[float, float]
    direction: Direction
    p_value: float

    @property
    def score(self) -> float:
        return score_of(self.p_value)


def judge_hours(con: Connection, *, as_of: datetime) -> int:
    """Record the anomalies of the last whole hours of `kpis.hourly` in `watch.anomalies`, in place of those that began
    in these hours; returns how many there are. What began before stays and goes on, since its first hours are not
    judged any more. Writes nothing when nothing has changed.

    Args:
        con: a connection inside a write transaction.
        as_of: aware UTC; the hour that it lies in is not over.
    """
    if not has_table(con, "kpis", "hourly"):
        return 0
    end = to_warehouse(as_of).replace(minute=0, second=0, microsecond=0)
    start = end - timedelta(hours=_JUDGED_HOURS)
    rows = con.execute(
        """
        select kpi, slice, hour_at, numerator, denominator from kpis.hourly
        where hour_at >= $1 and hour_at < $2 and is_complete order by kpi, slice, hour_at
        """,
        [start - timedelta(days=_LEARN_DAYS), end],
    ).fetchall()
    series: dict[tuple[str, str], dict[datetime, tuple[float, float | None]]] = {}
    for kpi, slice_, at, numerator, denominator in rows:
        series.setdefault((kpi, slice_), {})[at] = (numerator, denominator)
    judged = {key: _judge(values, start=start, end=end) for key, values in series.items()}
    threshold = discoveries([hour.p_value for hours in judged.values() for hour in hours], rate=_RATE)
    names = ", ".join(_COLUMNS)
    before = con.execute(
        f"select {names} from watch.anomalies where grain = 'hour' and ended_at >= $1 and started_at < $2",
        [start - _APART, end],
    ).fetchall()
    by_id = {row[0]: row for row in before}
    begun = {row[0]: row for row in before if row[3] < start}
    found: list[_Row] = []
    for key, hours in judged.items():
        for run in _runs(hours, threshold):
            old = next((row for row in begun.values() if _goes_on(row, key, run)), None)
            if old is not None:
                begun[old[0]] = _extended(old, run, as_of)
            elif len(run) > 1 or run[0].score >= _ALONE_SCORE:
                found.append(_row(key, run, as_of))
    # The time of the first detection stays.
    found = [(*row[:11], by_id[row[0]][11], *row[12:]) if row[0] in by_id else row for row in found]
    found += begun.values()
    if sorted(found, key=str) != sorted(before, key=str):
        ids = [row[0] for row in before] + [row[0] for row in found]
        con.execute("delete from watch.anomalies where list_contains($1::varchar[], anomaly_id)", [ids])
        if found:
            insert_rows(con, "watch.anomalies", _COLUMNS, found)
    return sum(row[4] >= start for row in found)


def _judge(values: dict[datetime, tuple[float, float | None]], *, start: datetime, end: datetime) -> list[_Hour]:
    known = {at: value for at, value in values.items() if at < start}
    if not known or (start - min(known)).days < _LEAST_DAYS:
        return []
    is_ratio = any(total is not None for _, total in values.values())
    profile: dict[tuple[bool, int], list[tuple[float, float]]] = {}
    at = min(known)
    while at < start:
        count, total = known.get(at, (0.0, 0.0))
        profile.setdefault(_kind_of(at), []).append((count, (total or 0.0) if is_ratio else 1.0))
        at += timedelta(hours=1)
    extra = max(_extra(profile, is_ratio=is_ratio), _LEAST_SPREAD)
    judged = []
    at = start
    while at < end:
        hours = profile.get(_kind_of(at), [])
        count, total = values.get(at, (0.0, 0.0))
        cases = sum(n for _, n in hours)
        share = sum(n for n, _ in hours) / cases if cases else 0.0
        law: CountLaw | None = None
        if is_ratio and total and min(share, 1 - share) * total >= _LEAST_CASES:
            law = BetaBinomial(total=round(total), share=share, extra=extra)
        elif not is_ratio and share >= _LEAST_CASES:
            law = NegativeBinomial(mean=share, extra=extra)
        if law is not None:
            below, above = law.tails(round(count))
            judged.append(
                _Hour(
                    at=at,
                    count=count,
                    total=total if is_ratio else None,
                    expected=share * (total or 0.0) if is_ratio else share,
                    band=law.interval(0.005),
                    direction="down" if below < above else "up",
                    p_value=min(2 * min(below, above), 1.0),
                )
            )
        at += timedelta(hours=1)
    return judged


def _kind_of(at: datetime) -> tuple[bool, int]:
    return at.weekday() >= 5, at.hour


def _extra(profile: dict[tuple[bool, int], list[tuple[float, float]]], *, is_ratio: bool) -> float:
    """Variance beyond counting, on the scale of the logarithm or logit, by moments; the middle one of all hours, so
    that an outage among them does not make outages ordinary."""
    found = []
    for hours in profile.values():
        cases = sum(n for _, n in hours)
        share = sum(n for n, _ in hours) / cases if cases else 0.0
        if not share > 0 or (is_ratio and share >= 1) or (not is_ratio and share < _LEAST_CASES):
            continue
        for count, total in hours:
            mean = share * total
            sampling = mean * (1 - share) if is_ratio else mean
            scale = (mean * (1 - share)) ** 2 if is_ratio else mean**2
            if scale:
                found.append(((count - mean) ** 2, sampling, scale))
    if not found:
        return 0.0
    # The median of a squared normal deviate is 0.4549.
    ratios = sorted(square / 0.4549 - sampling for square, sampling, _ in found)
    scales = sorted(scale for *_, scale in found)
    return max(ratios[len(ratios) // 2], 0.0) / scales[len(scales) // 2]


def _runs(hours: Sequence[_Hour], threshold: float) -> list[list[_Hour]]:
    runs: list[list[_Hour]] = []
    for hour in hours:
        if hour.p_value > threshold:
            continue
        last = runs[-1][-1] if runs else None
        if last is not None and last.direction == hour.direction and hour.at - last.at <= _APART:
            runs[-1].append(hour)
        else:
            runs.append([hour])
    return runs


def _goes_on(old: _Row, key: tuple[str, str], run: Sequence[_Hour]) -> bool:
    """Whether a run is in, or follows, what is on record from before the judged hours."""
    return (old[1], old[2], old[10]) == (*key, run[0].direction) and run[0].at - old[4] <= _APART


def _extended(old: _Row, run: Sequence[_Hour], as_of: datetime) -> _Row:
    """What is on record, with the hours after it; the id, the start and the first detection stay."""
    later = [hour for hour in run if hour.at > old[4]]
    if not later:
        return old
    added = _row((old[1], old[2]), later, as_of)
    is_ratio = old[15] == "ratio"
    total = old[14] + added[14] if is_ratio else None
    figures = [
        (a * old[14] + b * added[14]) / total if is_ratio else a + b for a, b in zip(old[5:9], added[5:9], strict=True)
    ]
    worst = max(old, added, key=lambda row: row[13])
    # Two hours, or one beyond every bar, and now another one: high.
    return (*old[:4], added[4], *figures, "high", *old[10:12], *worst[12:14], total, *old[15:])


def _row(key: tuple[str, str], run: Sequence[_Hour], as_of: datetime) -> _Row:
    """The whole run as one figure: sums of counts, the quotient of the sums of a ratio."""
    kpi, slice_ = key
    worst = max(run, key=lambda hour: hour.score)
    total = sum(hour.total for hour in run if hour.total is not None) or None
    part = total or 1.0
    score = max(hour.score for hour in run)
    severity: Severity = "high" if score >= HIGH_SCORE or len(run) >= 3 else "medium"
    kind: Kind = "ratio" if total else "count"
    ident = anomaly_id(kpi, f"{slice_}@{run[0].at.isoformat()}", worst.direction, run[0].at.date())
    return (
        ident, kpi, slice_, run[0].at, run[-1].at, sum(h.count for h in run) / part,
        sum(h.expected for h in run) / part,
        sum(h.band[0] for h in run) / part, sum(h.band[1] for h in run) / part, severity, worst.direction,
        to_warehouse(as_of), worst.at.date(), score, total, kind, "hour",
    )  # fmt: skip
