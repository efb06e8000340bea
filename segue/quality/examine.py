"""The checks: each compares the last days of what arrived with the days before.

Everything is judged by the day on which messages were received, up to `as_of`. What is usual of a day is the median of
the same weekday over the four weeks before, so that a quiet Sunday is no loss.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median

from segue.clock import to_warehouse
from segue.events import Contract
from segue.quality.findings import Finding, Weight, lasting
from segue.quality.limits import Limits
from segue.warehouse import Connection, has_table

#: Days that are judged, and days before them that say what is usual.
_JUDGED, _BEFORE = 14, 28
_LEAST_WEEKS = 2
#: Properties of one event that are looked at, the most common first, and new ones that are named each. Names come with
#: events: a sender that uses ids as names of properties brings a million of them.
_MOST_PROPERTIES, _MOST_NEW = 200, 20


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What every check is handed."""

    con: Connection
    as_of: datetime
    limits: Limits
    contracts: Sequence[Contract]

    @property
    def last(self) -> date:
        """The last day that is over."""
        return (self.as_of - timedelta(days=1)).date() if self.as_of.time() < datetime.max.time() else self.as_of.date()

    @property
    def first(self) -> date:
        return self.last - timedelta(days=_JUDGED - 1)

    @property
    def since(self) -> datetime:
        """The first instant that is looked at, naive UTC."""
        return to_warehouse(self.as_of) - timedelta(days=_JUDGED + _BEFORE + 1)


def examine(con: Connection, *, as_of: datetime, limits: Limits, contracts: Sequence[Contract] = ()) -> QualityReport:
    """Run every check. Reads only.

    Args:
        as_of: aware UTC; what was received later is not known.
        contracts: what events promise; a property that is in none, and was not there before, is news.
    """
    look = _Look(con=con, as_of=as_of, limits=limits, contracts=contracts)
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


def _volume(look: _Look) -> list[Finding]:
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
        for day in (look.first + timedelta(days=n) for n in range(_JUDGED)):
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
    return _joined(found)


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


def _joined(found: Sequence[Finding]) -> list[Finding]:
    """Days in a row with the same fault are one finding."""
    joined: list[Finding] = []
    for one in found:
        last = joined[-1] if joined else None
        if (
            last is not None
            and (last.subject, last.weight) == (one.subject, one.weight)
            and (one.first_date - last.last_date).days <= 1
        ):
            joined[-1] = lasting(last, one.last_date)
        else:
            joined.append(one)
    return joined


def _freshness(look: _Look) -> list[Finding]:
    """Every source that sends daily has sent lately."""
    rows = look.con.execute(
        """
        select coalesce(source, '?'), max(received_at), count(distinct received_at::date) from raw.events
        where received_at > $1 and received_at <= $2 group by all
        """,
        [look.since, to_warehouse(look.as_of)],
    ).fetchall()
    found = []
    for source, newest, day_count in sorted(rows):
        hours = (to_warehouse(look.as_of) - newest).total_seconds() / 3600
        if day_count >= 7 and hours > look.limits.silent_hours:
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


def _drift(look: _Look) -> list[Finding]:
    """No property is new, has vanished, or has changed its type."""
    rows = look.con.execute(
        """
        with messages as (
            select coalesce(event, type) as name, received_at::date as day, properties
            from raw.events
            where received_at > $1 and received_at <= $2 and type in ('track', 'page', 'screen')
        ),
        totals as (
            select * from (select name, day, count(*) as total from messages group by all)
            qualify sum(case when day < $3 then total else 0 end) over (partition by name) >= $4
        ),
        keys as (
            select name, day, unnest(json_keys(properties)) as property, properties
            from messages where json_type(properties) = 'OBJECT' and name in (select name from totals)
        ),
        typed as (
            select
                name, day, property,
                case json_type(properties -> ('$."' || replace(property, '"', '') || '"'))
                    when 'UBIGINT' then 'number' when 'BIGINT' then 'number' when 'DOUBLE' then 'number'
                    when 'HUGEINT' then 'number' when 'VARCHAR' then 'text' when 'BOOLEAN' then 'boolean'
                    when 'NULL' then 'nothing' else 'structure'
                end as kind
            from keys
        ),
        counted as (select name, day, property, kind, count(*) as n from typed group by all),
        placed as (
            select *, row_number() over (partition by name order by n desc, property) as place
            from (select name, property, sum(n) as n from counted group by all)
        )
        select counted.name, counted.day, counted.property, counted.kind, counted.n, totals.total
        from counted
        inner join totals on counted.name = totals.name and counted.day = totals.day
        inner join placed on counted.name = placed.name and counted.property = placed.property
        where placed.place <= $5
        union all
        select name, day, '', '', 0, total from totals
        union all
        select name, $6, '', 'beyond', max(place), 0 from placed group by name having max(place) > $5
        """,
        [
            look.since,
            to_warehouse(look.as_of),
            look.first,
            look.limits.least_messages,
            _MOST_PROPERTIES,
            look.last,
        ],
    ).fetchall()
    return _drift_of(look, rows)


def _drift_of(look: _Look, rows: Sequence[tuple[str, date, str, str, int, int]]) -> list[Finding]:
    totals: dict[str, dict[date, int]] = {}
    kinds: dict[tuple[str, str], dict[str, dict[date, int]]] = {}
    found: list[Finding] = []
    news: dict[str, int] = {}
    for name, day, prop, kind, count, total in rows:
        if kind == "beyond":
            text = f"{name} has {count:,} properties; the {_MOST_PROPERTIES} most common are looked at. Are ids names?"
            found.append(_drifted("warning", f"properties of {name}", name, day, day, text))
            continue
        totals.setdefault(name, {})[day] = total
        if prop:
            kinds.setdefault((name, prop), {}).setdefault(kind, {})[day] = count
    promised = {(c.name, p.name) for c in look.contracts for p in c.properties}
    recent = [look.first + timedelta(days=n) for n in range(_JUDGED)]
    for (name, prop), by_kind in sorted(kinds.items()):
        before = {d: n for d, n in totals[name].items() if d < look.first}
        base = sum(before.values())
        if base < look.limits.least_messages:
            continue
        present = {d: sum(c.get(d, 0) for k, c in by_kind.items() if k != "nothing") for d in totals[name]}
        share_before = sum(present[d] for d in before) / base
        kind_counts = {k: sum(n for d, n in c.items() if d in before) for k, c in by_kind.items() if k != "nothing"}
        usual_kind = max(kind_counts, key=lambda k: kind_counts[k]) if any(kind_counts.values()) else None
        subject = f"{prop} of {name}"
        if share_before == 0 and (name, prop) not in promised:
            news[name] = news.get(name, 0) + 1
            if news[name] > _MOST_NEW:
                continue
            first = min(d for d in present if present[d])
            found.append(_drifted("note", subject, name, first, look.last, f"{subject} is new: no contract knows it."))
        for day in recent:
            total = totals[name].get(day, 0)
            if total < max(look.limits.least_messages / 3, 5):
                continue
            missing = (1 - present[day] / total) - (1 - share_before)
            if missing > look.limits.missing_rise:
                gone = present[day] == 0
                what = "has vanished" if gone else f"is missing in {100 * (1 - present[day] / total):.0f} % of messages"
                text = f"{subject} {what} on {day}; before, {100 * (1 - share_before):.0f} % lacked it."
                found.append(_drifted("error" if gone else "warning", subject, name, day, day, text, distorts=True))
            other = sum(c.get(day, 0) for k, c in by_kind.items() if k not in ("nothing", usual_kind))
            if usual_kind is not None and present[day] and other / present[day] > look.limits.type_share:
                kind = max(
                    (k for k in by_kind if k not in ("nothing", usual_kind)), key=lambda k: by_kind[k].get(day, 0)
                )
                text = f"{subject} came as {kind} on {day}; before, it was {usual_kind}."
                found.append(_drifted("error", subject, name, day, day, text, distorts=True))
    for name, count in news.items():
        if count > _MOST_NEW:
            text = f"{count - _MOST_NEW} more properties of {name} are new."
            found.append(_drifted("note", f"more properties of {name}", name, look.last, look.last, text))
    return _joined(found)


def _drifted(
    weight: Weight, subject: str, event: str, first: date, last: date, sentence: str, *, distorts: bool = False
) -> Finding:
    return Finding(
        check="drift",
        weight=weight,
        subject=subject,
        first_date=first,
        last_date=last,
        sentence=sentence,
        distorts=distorts,
        event=event,
    )


def _duplicates(look: _Look) -> list[Finding]:
    """Few messages arrive twice."""
    return _share_of_loads(look, "duplicates", "duplicate_count", look.limits.duplicate_share, "were duplicates")


def _quarantine(look: _Look) -> list[Finding]:
    """Few messages break their contract."""
    return _share_of_loads(
        look, "quarantine", "quarantined_count", look.limits.quarantine_share, "went into quarantine"
    )


def _share_of_loads(look: _Look, check: str, column: str, limit: float, what: str) -> list[Finding]:
    rows = look.con.execute(
        f"""
        select coalesce(source, '?'), loaded_at::date, sum({column}), sum(read_count) from raw.loads
        where loaded_at::date >= $1 and loaded_at <= $2 group by all having sum(read_count) >= $3 order by 1, 2
        """,
        [look.first, to_warehouse(look.as_of), look.limits.least_messages],
    ).fetchall()
    return _joined(
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


def _clock_skew(look: _Look) -> list[Finding]:
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
    return _joined(found)


def _cardinality(look: _Look) -> list[Finding]:
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


def _references(look: _Look) -> list[Finding]:
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
CHECKS: Mapping[str, Callable[[_Look], list[Finding]]] = {
    "volume": _volume,
    "freshness": _freshness,
    "drift": _drift,
    "duplicates": _duplicates,
    "quarantine": _quarantine,
    "clock_skew": _clock_skew,
    "cardinality": _cardinality,
    "references": _references,
}
