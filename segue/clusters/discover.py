"""Discovery: assign people to the clusters that are there, and find new ones when people have changed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from segue.clock import to_warehouse
from segue.clusters import life
from segue.clusters.features import Feature, choose
from segue.clusters.kept import Kept
from segue.clusters.methods import Candidate, silhouette
from segue.clusters.outcome import Outcome, outcome_of_hdbscan, outcome_of_kmeans
from segue.clusters.plane import cells
from segue.clusters.profiles import Profile, profiles
from segue.clusters.tables import (
    ensure_tables,
    newest_model,
    write_events,
    write_map,
    write_model,
    write_people,
    write_run,
)
from segue.clusters.vectors import Floats, Ints, Vectors, vectors
from segue.errors import WarehouseError
from segue.warehouse import Connection

#: With fewer people a cluster is an anecdote.
FEWEST_PEOPLE = 20

#: Events from which on a person's behaviour can be compared.
MIN_EVENTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodReport:
    """What one method found."""

    method: str  # kmeans or hdbscan
    cluster_count: int
    silhouette: float | None  # None when there are no clusters
    criterion: str  # how the number of clusters was chosen, or why there are none
    decision: str  # whether people were only assigned, or found anew and published, and why
    person_count: int  # compared
    left_out_count: int  # too little activity, or in no cluster
    profiles: tuple[Profile, ...]  # largest first
    events: tuple[life.LifeEvent, ...] = ()  # born, split, merged, died
    candidates: tuple[Candidate, ...] = ()  # K-Means: what was tried
    labels: Ints = field(repr=False)  # per person compared: place in `profiles`; -1 is no cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterReport:
    """What a discovery found and wrote."""

    as_of: datetime
    person_count: int  # people compared
    left_out_count: int  # people with too little activity to be compared
    feature_count: int
    note: str  # why there are no clusters, and the last ones stay; empty when there are
    methods: tuple[MethodReport, ...]
    people: Vectors = field(repr=False)

    def method(self, name: str) -> MethodReport:
        """The report of `kmeans` or `hdbscan`."""
        return next(m for m in self.methods if m.method == name)


@dataclass(frozen=True, kw_only=True)
class _People:
    """Who is compared."""

    ids: pa.Array
    raw: Floats
    features: tuple[Feature, ...]
    before: dict[str, Ints]  # method → id of each person's last cluster; -1: none, -2: not there before
    left_out: int


def discover(
    con: Connection,
    *,
    as_of: datetime,
    seed: int = 0,
    features: Sequence[Feature] = (),
    min_events: int = MIN_EVENTS,
) -> ClusterReport:
    """Say who behaves alike, by K-Means and by HDBSCAN. To be called inside a transaction.

    Clusters live on: people are assigned to the centres that were last published, and stay where they are unless
    another centre is clearly nearer (`segue.clusters.outcome.STAY`). Clusters are found anew when there are none, when
    the compared columns have changed, or when people have drifted (`segue.clusters.kept.Drift`); what is found then is
    published as `segue.clusters.life.verdict` says, and each cluster that was born, split, merged or died is an event.
    How the number of clusters is chosen: `segue.clusters.methods.kmeans`. How columns are scaled:
    `segue.clusters.vectors.vectors`. HDBSCAN has no centres: people keep their group, newcomers follow their
    neighbours, and groups are found anew when those of K-Means are.

    `clusters.assignments` and `clusters.profiles` hold the newest state; all other tables of the schema keep one row
    or more per method and as_of. When nothing can be found, the last good state stays and `clusters.runs` says why.

    Args:
        con: a connection on which the warehouse is the default catalog, with marts.person_features.
        as_of: the time that the features are of.
        seed: of everything random.
        features: which columns are compared (`features_of`); none: those that Segue ships.
        min_events: people with a smaller event_count are left apart, where that column exists.

    Raises:
        WarehouseError: when marts.person_features has not been built.
        DefinitionError: when a feature's column does not exist or holds no numbers.
    """
    ensure_tables(con)
    who = _read(con, features, min_events)
    kept, why = _usable(newest_model(con, "kmeans"), who.features)
    people = vectors(who.raw, who.features, scaled_as=kept.dimensions if kept is not None else ())
    fresh = vectors(who.raw, who.features) if kept is not None else people
    note = _why_none(fresh, min_events)
    outcomes: dict[str, Outcome] = {}
    if not note:
        # One thread: sums in the same order every time, so the same clusters to the last digit.
        with threadpool_limits(1):
            outcomes["kmeans"] = outcome_of_kmeans(
                con, people, fresh, who.before["kmeans"], kept=kept, why=why, seed=seed
            )
            outcomes["hdbscan"] = outcome_of_hdbscan(con, outcomes["kmeans"], who.before["hdbscan"], seed=seed)
    moment = to_warehouse(as_of)
    reports = []
    for name in ("kmeans", "hdbscan"):
        outcome = outcomes.get(name)
        if outcome is None:
            report = _nothing(name, note, len(who.ids), who.left_out)
            parameters: dict[str, Any] = {"seed": seed}
        else:
            report, distances = _told(name, outcome, who, seed)
            write_people(
                con, name, moment, ids=who.ids, labels=report.labels, distances=distances, profiles=report.profiles
            )
            write_map(con, name, moment, cells(outcome.people.matrix, report.labels), report.profiles)
            parameters = outcome.found.parameters if outcome.found is not None else {"seed": seed}
            parameters = {**parameters, "logged": [d.feature.column for d in outcome.people.dimensions if d.is_logged]}
            if outcome.is_published:
                write_events(con, name, moment, report.events)
                if outcome.found is not None and outcome.found.centres is not None:
                    names = {p.cluster_id: p.cluster_name for p in report.profiles}
                    named = [replace(c, cluster_name=names[c.cluster_id]) for c in outcome.clusters]
                    write_model(
                        con, name, moment,
                        Kept.of(outcome.people, named, outcome.found.centres, outcome.found.distances),
                    )  # fmt: skip
        drift = outcome.drift if outcome is not None else None
        write_run(
            con,
            moment,
            {
                "method": name,
                "parameters": json.dumps(
                    {
                        **parameters,
                        "min_events": min_events,
                        "features": [f.column for f in who.features],
                        "candidates": [asdict(c) for c in report.candidates],
                    }
                ),
                "criterion": report.criterion,
                "silhouette": report.silhouette,
                "person_count": report.person_count,
                "left_out_count": report.left_out_count,
                "decision": report.decision,
                "agreement": outcome.agreement if outcome is not None else None,
                "drift": drift.index if drift is not None else None,
                "drift_column": drift.column if drift is not None else None,
                "far_share": drift.far_share if drift is not None else None,
            },
        )
        reports.append(report)
    return ClusterReport(
        as_of=as_of,
        person_count=len(who.ids),
        left_out_count=who.left_out,
        feature_count=len(who.features),
        note=note,
        methods=tuple(reports),
        people=outcomes["kmeans"].people if outcomes else people,
    )


def _usable(text: str | None, features: Sequence[Feature]) -> tuple[Kept | None, str]:
    """What was kept, when people can be measured by it; else why clusters are found anew."""
    if text is None:
        return None, "there were none before"
    kept = Kept.from_json(text)
    if kept is None:
        return None, "the clusters that were kept are of another version of Segue"
    columns = [f.column for f in features]
    came, went = sorted(set(columns) - set(kept.columns)), sorted(set(kept.columns) - set(columns))
    if came or went:
        return None, "the compared columns have changed: " + ", ".join(
            [f"+{c}" for c in came] + [f"−{c}" for c in went]
        )
    # The words of a column may have been edited since; what they name is measured as before.
    now = {f.column: f for f in features}
    return replace(kept, dimensions=tuple(replace(d, feature=now[d.feature.column]) for d in kept.dimensions)), ""


def _told(name: str, outcome: Outcome, who: _People, seed: int) -> tuple[MethodReport, Floats]:
    """The report, with clusters in the order of their size and without those that nobody is in."""
    sizes = np.bincount(outcome.labels[outcome.labels >= 0], minlength=len(outcome.clusters))
    order = sorted((n for n in range(len(sizes)) if sizes[n]), key=lambda n: (-sizes[n], n))
    rank = np.full(len(sizes) + 1, -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    labels = rank[outcome.labels]
    told = profiles(outcome.people, labels, [outcome.clusters[n] for n in order])
    names = {p.cluster_id: p for p in told}
    found = outcome.found
    report = MethodReport(
        method=name,
        cluster_count=len(told),
        silhouette=found.silhouette if found is not None else silhouette(outcome.people.matrix, labels, seed),
        criterion=found.criterion if found is not None else "the number of clusters of the last publication",
        decision=outcome.decision,
        person_count=len(who.ids),
        left_out_count=who.left_out + int((labels < 0).sum()),
        profiles=told,
        events=tuple(_explained(e, names) for e in outcome.events),
        candidates=found.candidates if found is not None else (),
        labels=labels,
    )
    return report, outcome.distances


def _explained(event: life.LifeEvent, names: dict[int, Profile]) -> life.LifeEvent:
    """The event in a sentence."""
    own = names.get(event.cluster_id)
    name = event.cluster_name or (own.cluster_name if own is not None else "")
    others = " and ".join(f"“{names[i].cluster_name}”" if i in names else f"cluster {i}" for i in event.others)
    count = f"{event.person_count:,} people"
    text = {
        "born": f"“{name}” is new: {count}. {own.profile if own is not None else ''}",
        "died": f"“{name}” is no more: its {count} are spread over other clusters.",
        "split": f"“{name}” ({count}) fell apart into {others}.",
        "merged": f"“{name}” ({count}) holds the people of {others}.",
    }[event.event]
    return replace(event, cluster_name=name, explanation=text.strip())


def _nothing(name: str, note: str, people: int, left_out: int) -> MethodReport:
    return MethodReport(
        method=name, cluster_count=0, silhouette=None, criterion=note, decision="the last clusters stay",
        person_count=people, left_out_count=left_out + people, profiles=(),
        labels=np.full(people, -1, dtype=np.int64),
    )  # fmt: skip


def _why_none(people: Vectors, min_events: int) -> str:
    count = len(people.raw)
    if count < FEWEST_PEOPLE:
        return f"too few people to compare: {count} with at least {min_events} events, and {FEWEST_PEOPLE} are needed"
    if not people.matrix.shape[1] or not np.ptp(people.matrix, axis=0).any():
        return f"all {count} people are the same in every feature"
    return ""


def _read(con: Connection, wanted: Sequence[Feature], min_events: int) -> _People:
    """People in the order of their ids, with the clusters they were in."""
    try:
        described = con.execute("describe marts.person_features").fetchall()
    except duckdb.CatalogException:
        raise WarehouseError("marts.person_features has not been built", fix="`segue refresh` builds it") from None
    columns = {row[0]: row[1] for row in described}
    features = choose(columns, wanted)
    quoted = ['"' + f.column.replace('"', '""') + '"' for f in features]
    casts = "".join(f", p.{q}::double as f{n}" for n, q in enumerate(quoted))
    enough = f"coalesce(p.event_count, 0) >= {int(min_events)}" if "event_count" in columns else "true"
    last: Callable[[str], str] = lambda method: (  # noqa: E731
        f"(select person_id, any_value(cluster_id) as cluster_id from clusters.assignments"
        f" where method = '{method}' group by person_id)"
    )
    table = con.execute(
        "select p.person_id, coalesce(k.cluster_id, -2)::bigint as kmeans,"
        " coalesce(h.cluster_id, -2)::bigint as hdbscan"
        f"{casts} from marts.person_features p"
        f" left join {last('kmeans')} k using (person_id) left join {last('hdbscan')} h using (person_id)"
        f" where {enough} order by p.person_id"
    ).to_arrow_table()
    everybody = con.execute("select count(*) from marts.person_features").fetchone()
    assert everybody is not None
    raw = np.empty((table.num_rows, len(features)))
    for n in range(len(features)):
        raw[:, n] = table[f"f{n}"].to_numpy()
    return _People(
        ids=table["person_id"].combine_chunks(),
        raw=raw,
        features=tuple(features),
        before={name: table[name].to_numpy() for name in ("kmeans", "hdbscan")},
        left_out=everybody[0] - table.num_rows,
    )
