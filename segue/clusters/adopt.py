"""From a cluster to a segment that an analyst edits from then on."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from segue.clusters.features import Feature, choose
from segue.clusters.rules import ClusterRules, learn
from segue.errors import BadInputError
from segue.models.project import quote
from segue.warehouse import Connection

#: Below, the predicates miss too much of what the cluster is.
FAITHFUL = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """A segment that stands for a cluster."""

    segment: str
    cluster_name: str
    rules: ClusterRules
    member_count: int  # people in the cluster
    sql: str  # of the model
    yaml: str  # beside it


def adopt(
    con: Connection,
    name: str,
    *,
    segment: str | None,
    features: tuple[Feature, ...],
    priority: int,
    min_events: int,
    method: str = "kmeans",
    seed: int = 0,
) -> Adoption:
    """Learn readable predicates for a cluster; nothing is written.

    Args:
        con: a connection on which the warehouse is the default catalog.
        name: of the cluster, in any case, or its id.
        segment: what the segment is to be called; None: after the cluster.
        features: which columns may be used; none: those that Segue ships.
        priority: of the segment.
        min_events: people with fewer were not compared.

    Raises:
        BadInputError: when there is no such cluster, everybody is in it, or no predicate tells who is.
    """
    known = con.execute(
        "select cluster_id, cluster_name, as_of from clusters.profiles where method = $1 order by cluster_id", [method]
    ).fetchall()
    found = next((row for row in known if name.casefold() in (str(row[0]), row[1].casefold())), None)
    if found is None:
        listed = ", ".join(f"{number} “{cluster}”" for number, cluster, _ in known) or "none yet: `segue refresh`"
        raise BadInputError(f"there is no cluster {name!r}", fix=f"name one of them: {listed}")
    number, cluster, as_of = found
    columns = {row[0]: row[1] for row in con.execute("describe marts.person_features").fetchall()}
    chosen = [f.column for f in choose(columns, features)]
    casts = ", ".join(f"p.{quote(c)}::double as f{n}" for n, c in enumerate(chosen))
    table = con.execute(
        f"select a.cluster_id = $2 as is_member, {casts} from marts.person_features p"
        " join clusters.assignments a using (person_id) where a.method = $1 order by p.person_id",
        [method, number],
    ).to_arrow_table()
    members = table["is_member"].to_numpy().astype(bool)
    if not members.any() or members.all():
        raise BadInputError(
            f"the cluster {cluster!r} holds {'everybody' if members.any() else 'nobody'}, so no rule can tell it apart",
            fix="`segue clusters list` shows the others",
        )
    raw = np.column_stack([table[f"f{n}"].to_numpy() for n in range(len(chosen))])
    raw[~np.isfinite(raw)] = np.nan
    rules = learn(raw, chosen, members, seed=seed)
    if not any(rules.ways):
        raise BadInputError(
            f"no rule on {', '.join(chosen)} tells the people of the cluster {cluster!r} from the others",
            fix="mark columns that do with `cluster: true` in person_features.yml, then `segue refresh`; or adopt "
            "another one of `segue clusters list`",
        )
    return Adoption(
        segment=segment or _slug(cluster),
        cluster_name=cluster,
        rules=rules,
        member_count=int(members.sum()),
        sql=_sql(cluster, rules, f"{as_of:%Y-%m-%d}", min_events if "event_count" in columns else None),
        yaml=_yaml(segment or _slug(cluster), cluster, rules, f"{as_of:%Y-%m-%d}", priority),
    )


def write(adoption: Adoption, dbt_project: Path) -> tuple[Path, Path]:
    """Put the segment into the analysts' project.

    Raises:
        BadInputError: when a model of that name is there already.
    """
    name = adoption.segment
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise BadInputError(f"{name!r} cannot be the name of a segment", fix="use lower case, digits and _: --as NAME")
    taken = next((dbt_project / "models").rglob(f"{name}.sql"), None)
    if taken is not None:
        raise BadInputError(f"there is a model {name} already: {taken}", fix="choose another name: --as NAME")
    folder = dbt_project / "models" / "segments"
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}.sql", folder / f"{name}.yml"
    # The YAML first: without it the SQL would for a moment be a segment without an owner.
    paths[1].write_text(adoption.yaml)
    paths[0].write_text(adoption.sql)
    return paths


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return slug if slug[:1].isalpha() else f"cluster_{slug}"


def _sql(cluster: str, rules: ClusterRules, day: str, min_events: int | None) -> str:
    ways = [" and ".join(b.sql() for b in way) for way in rules.ways]
    lines = [
        f"-- Adopted from the cluster “{cluster}” of {day}, and yours to edit: precision {rules.precision:.2f}, recall",
        f"-- {rules.recall:.2f} against it, by {rules.judged_count:,} people that were not learnt from.",
        "with people as (select * from {{ ref('person_features') }})",
        "",
        "select",
        "    person_id,",
        f"    'behaves like the cluster {cluster.replace(chr(39), chr(39) * 2)}' as reason",
        "from people",
        "where",
    ]
    if min_events is not None:
        lines.append(f"    event_count >= {min_events}")
    lead = "    and " if min_events is not None else "    "
    if len(ways) == 1:
        bounds = [b.sql() for b in rules.ways[0]]
        lines += [f"{lead if n == 0 else '    and '}{b}" for n, b in enumerate(bounds)]
    else:
        lines.append(f"{lead}(")
        lines += [f"        {'' if n == 0 else 'or '}({way})" for n, way in enumerate(ways)]
        lines.append("    )")
    return "\n".join(lines) + "\n"


def _yaml(segment: str, cluster: str, rules: ClusterRules, day: str, priority: int) -> str:
    content = {
        "models": [
            {
                "name": segment,
                "description": (
                    f"People like those of the cluster “{cluster}” of {day} (precision {rules.precision:.2f}, recall "
                    f"{rules.recall:.2f}). One row per member."
                ),
                "config": {
                    "meta": {
                        "dagster": {"group": "segments", "owners": ["team:growth"]},
                        "segue": {
                            "priority": priority,
                            "min_share": 0.01,
                            "realtime": True,
                        },
                    }
                },
                "data_tests": [{"is_key": {"arguments": {"columns": ["person_id"]}}}],
                "columns": [
                    {"name": "person_id", "description": "A member."},
                    {"name": "reason", "description": "Why the person is a member."},
                ],
            }
        ]
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)
