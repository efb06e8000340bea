"""Drift: properties of events that are new, have vanished, or come as another type than before."""

from collections.abc import Sequence
from datetime import date

from segue.clock import to_warehouse
from segue.quality.findings import Finding, Weight, joined
from segue.quality.look import Look

#: Properties of one event that are looked at, the most common first, and new ones that are named each. Names come with
#: events: a sender that uses ids as names of properties brings a million of them.
_MOST_PROPERTIES, _MOST_NEW = 200, 20


def drift(look: Look) -> list[Finding]:
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


def _drift_of(look: Look, rows: Sequence[tuple[str, date, str, str, int, int]]) -> list[Finding]:
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
    recent = look.days
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
    return joined(found)


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
