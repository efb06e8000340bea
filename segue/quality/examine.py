"""The checks: each compares the last days of what arrived with the days before.

Everything is judged by the day on which messages were received, up to `as_of`. What is usual of a day is the median of
the same weekday over the four weeks before, so that a quiet Sunday is no loss.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby, pairwise
from operator import itemgetter
from statistics import median

from segue.clock import to_warehouse
from segue.events import Contract
from segue.quality.drift import drift
from segue.quality.findings import Finding, Weight, joined
from segue.quality.limits import Limits
from segue.quality.look import Look
from segue.warehouse import Connection, has_table

#: Weeks before a day without which nothing is usual of it.
_LEAST_WEEKS = 2
#: Days on which a source has sent, below which its silence tells nothing.
_LEAST_DAYS = 7
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check."""

    check: str
    description: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing worse than a note was found."""
        return not any(f.weight != "note" for f in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """All checks as of one time."""

    as_of: datetime
    results: tuple[CheckResult, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What all checks found, in their order."""
        return tuple(f for result in self.results for f in result.findings)


def examine(con: Connection, *, as_of: datetime, limits: Limits, contracts: Sequence[Contract] = ()) -> QualityReport:
    """Run every check. Reads only.

    Args:
        as_of: aware UTC; what was received later is not known.
        contracts: what events promise; a property that is in none, and was not there before, is news.
    """
    look = Look(con=con, as_of=as_of, limits=limits, contracts=contracts)
    ready = has_table(con, "raw", "events", "loads")
    return QualityReport(
        as_of=as_of,
        results=tuple(
            CheckResult(check=name, description=(run.__doc__ or "").splitlines()[0], findings=tuple(run(look)))
            if ready
            else CheckResult(check=name, description=(run.__doc__ or "").splitlines()[0], findings=())
            for name, run in CHECKS.items()
        ),
    )


def _volume(look: Look) -> list[Finding]:
    """No event and no source has vanished, or sends far less or more than is usual."""
    rows = look.con.execute(
        """
        select 'source', coalesce(source, '?'), received_at::date, count(*) from raw.events
        where received_at > $1 and received_at <= $2 group by all
        union all
        (
            select * from (
                select 'event', coalesce(event, type) as name, received_at::date, count(*) as n from raw.events
                where received_at > $1 and received_at <= $2 group by all
            )
            -- What was never common has no usual day.
            qualify max(n) over (partition by name) >= $3
        )
        """,
        [look.since, to_warehouse(look.as_of), look.limits.least_messages],
    ).fetchall()
    table: dict[tuple[str, str], dict[date, int]] = {}
    for kind, name, day, count in rows:
        table.setdefault((kind, name), {})[day] = count
    found = []
    for about, counts in sorted(table.items()):
        began = min(counts)
        for day in look.days:
            before = [counts.get(d, 0) for w in range(1, 5) if (d := day - timedelta(weeks=w)) >= began]
            usual = median(before) if len(before) >= _LEAST_WEEKS else 0.0
            if usual < look.limits.least_messages:
                continue
            now = counts.get(day, 0)
            if now == 0:
                found.append(_day("error", about, day, "sent nothing", usual, distorts=True))
            elif now < (1 - look.limits.volume_drop) * usual:
                # All that a source sends falls at once in an outage; one event may fall since people do less of it.
                is_outage = about[0] == "source"
                found.append(_day("warning", about, day, f"sent {now:,} messages", usual, distorts=is_outage))
            elif now > look.limits.volume_rise * usual:
                found.append(_day("warning", about, day, f"sent {now:,} messages", usual))
    return joined(found)


def _day(
    weight: Weight, about: tuple[str, str], day: date, what: str, usual: float, *, distorts: bool = False
) -> Finding:
    kind, name = about
    return Finding(
        check="volume",
        weight=weight,
        subject=f"{kind} {name}",
        first_date=day,
        last_date=day,
        sentence=f"{kind.capitalize()} {name} {what} on {day.isoformat()}, where {usual:,.0f} are usual.",
        distorts=distorts,
        event=name if kind == "event" else "",
        source=name if kind == "source" else "",
    )


def _freshness(look: Look) -> list[Finding]:
    """No source has been silent for far longer than it usually is."""
    rows = look.con.execute(
        """
        select coalesce(source, '?'), min(received_at), max(received_at) from raw.events
        where received_at > $1 and received_at <= $2
        group by coalesce(source, '?'), date_trunc('hour', received_at) order by all
        """,
        [look.since, to_warehouse(look.as_of)],
    ).fetchall()
    found = []
    for source, group in groupby(rows, key=itemgetter(0)):
        heard = [(first, last) for _, first, last in group]
        newest = heard[-1][1]
        hours = (to_warehouse(look.as_of) - newest) / _HOUR
        is_regular = len({last.date() for _, last in heard}) >= _LEAST_DAYS
        # The limit is that of a source that sends daily. One that rests at the weekend is given as much more time.
        if is_regular and hours > look.limits.silent_hours * max(_longest_silence(heard) / 24, 1):
            found.append(
                Finding(
                    check="freshness",
                    weight="error",
                    subject=f"source {source}",
                    first_date=newest.date(),
                    last_date=look.as_of.date(),
                    sentence=f"Source {source} has sent nothing for {hours:.0f} hours, since {newest:%Y-%m-%d %H:%M}.",
                    distorts=True,
                    source=source,
                )
            )
    return found


def _longest_silence(heard: Sequence[tuple[datetime, datetime]]) -> float:
    """Hours that a source is silent at most in a usual one of its last four weeks: the median, since one may have had
    an outage.

    Args:
        heard: by hour in which it sent, the first and the last message, ascending; of more than one hour.
    """
    newest = heard[-1][1]
    by_week: dict[int, float] = {}
    for (_, before), (after, _) in pairwise(heard):
        week = (newest - after) // timedelta(weeks=1)
        by_week[week] = max(by_week.get(week, 0.0), (after - before) / _HOUR)
    return median([longest for week, longest in by_week.items() if week < 4])


def _duplicates(look: Look) -> list[Finding]:
    """Few messages arrive twice."""
    return _share_of_loads(look, "duplicates", "duplicate_count", look.limits.duplicate_share, "were duplicates")


def _quarantine(look: Look) -> list[Finding]:
    """Few messages break their contract."""
    return _share_of_loads(
        look, "quarantine", "quarantined_count", look.limits.quarantine_share, "went into quarantine"
    )


def _share_of_loads(look: Look, check: str, column: str, limit: float, what: str) -> list[Finding]:
    rows = look.con.execute(
        f"""
        select coalesce(source, '?'), loaded_at::date, sum({column}), sum(read_count) from raw.loads
        where loaded_at::date >= $1 and loaded_at <= $2 group by all having sum(read_count) >= $3 order by 1, 2
        """,
        [look.first, to_warehouse(look.as_of), look.limits.least_messages],
    ).fetchall()
    return joined(
        [
            Finding(
                check=check,
                weight="warning",
                subject=f"source {source}",
                first_date=day,
                last_date=day,
                sentence=f"{100 * count / total:.1f} % of {total:,.0f} messages of {source}, read on {day}, {what}.",
                source=source,
            )
            for source, day, count, total in rows
            if count / total > limit
        ]
    )


def _clock_skew(look: Look) -> list[Finding]:
    """The clocks of senders are about right."""
    rows = look.con.execute(
        """
        select
            coalesce(source, '?'), received_at::date, count(*),
            count(*) filter (where abs(epoch(received_at) - epoch(sent_at)) > $3 * 60)
        from raw.events
        where received_at > $1 and received_at <= $2 and sent_at is not null group by all order by 1, 2
        """,
        [look.since, to_warehouse(look.as_of), look.limits.skew_minutes],
    ).fetchall()
    found = []
    for source, day, total, wrong in rows:
        if day >= look.first and total >= look.limits.least_messages and wrong / total > look.limits.skew_share:
            text = (
                f"The clock was off by more than {look.limits.skew_minutes:.0f} minutes in {100 * wrong / total:.0f} % "
                f"of the messages of {source} on {day}; they were put right."
            )
            found.append(
                Finding(
                    check="clock_skew",
                    weight="warning",
                    subject=f"source {source}",
                    first_date=day,
                    last_date=day,
                    sentence=text,
                    source=source,
                )
            )
    return joined(found)


def _cardinality(look: Look) -> list[Finding]:
    """Nobody has more identifiers than a person can have."""
    if not has_table(look.con, "identity", "identifiers"):
        return []
    rows = look.con.execute(
        """
        with people as (select person_id, count(*) as identifiers from identity.identifiers group by person_id)
        select count(*), max(identifiers) from people where identifiers > $1
        """,
        [look.limits.identifiers_per_person],
    ).fetchall()
    count, most = rows[0]
    if not count:
        return []
    limit = look.limits.identifiers_per_person
    text = f"{count:,} people have more than {limit:.0f} identifiers, one of them {most:,}: shared devices, or tests."
    day = look.last
    return [
        Finding(
            check="cardinality", weight="warning", subject="identifiers", first_date=day, last_date=day, sentence=text
        )
    ]


def _references(look: Look) -> list[Finding]:
    """Everybody who has sessions or is in a segment is somebody."""
    found = []
    for schema, table in (("marts", "sessions"), ("segments", "memberships")):
        if not has_table(look.con, schema, table) or not has_table(look.con, "identity", "identifiers"):
            continue
        active = " and exited_at is null" if table == "memberships" else ""
        rows = look.con.execute(
            f"""
            select count(distinct person_id) from {schema}.{table}
            where person_id not in (select person_id from identity.identifiers){active}
            """
        ).fetchall()
        if count := int(rows[0][0]):
            day = look.last
            found.append(
                Finding(
                    check="references",
                    weight="error",
                    subject=f"{schema}.{table}",
                    first_date=day,
                    last_date=day,
                    sentence=f"{count:,} people in {schema}.{table} are not in identity.identifiers.",
                )
            )
    return found


#: By name; the first line of each docstring says what has to hold.
CHECKS: Mapping[str, Callable[[Look], list[Finding]]] = {
    "volume": _volume,
    "freshness": _freshness,
    "drift": drift,
    "duplicates": _duplicates,
    "quarantine": _quarantine,
    "clock_skew": _clock_skew,
    "cardinality": _cardinality,
    "references": _references,
}
