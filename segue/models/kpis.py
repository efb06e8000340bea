"""Which models are KPIs, and of which days they are stale.

KPIs are the models in `models/kpis/` whose YAML says `meta: {segue: {kpi: …}}`.

`kpis.daily` is made of all of them, so that a KPI is one file of SQL and one of YAML and nothing else. dbt has to know
what a model reads when it parses, and cannot look into a folder; so whoever starts dbt tells it, in `SEGUE_KPIS`.
"""

from datetime import datetime
from pathlib import Path

from segue.clock import from_warehouse
from segue.models.described import YAML, described
from segue.variables import read_variables
from segue.warehouse import Connection, has_table

#: The variable that dbt reads the list from.
VARIABLE = "SEGUE_KPIS"


def kpi_models(project: Path) -> tuple[str, ...]:
    """Names of the KPI models of a dbt project, sorted; YAML that cannot be read is dbt's to complain of."""
    found = {
        str(entry["name"])
        for path, entry in described((project / "models" / "kpis").glob(YAML))
        if _is_kpi(entry) and (path.parent / f"{entry['name']}.sql").is_file()
    }
    return tuple(sorted(found))


def stale_since(con: Connection, project: Path) -> datetime | None:
    """The moment since which KPIs are stale by what int_touched_people found last; None: none are.

    A visit counts on the day on which it began, so what happens in it after midnight changes the day before. Sessions
    may be rebuilt already or not yet: what is before the change stays, and reaches to within the gap of it.
    """
    if not has_table(con, "marts", "sessions"):  # the first build: nothing began before
        row = con.execute("select min(rebuild_from) from intermediate.int_touched_people").fetchone()
    else:
        row = con.execute(
            """
            select min(least(touched.rebuild_from, visits.started_at))
            from intermediate.int_touched_people as touched
            left join marts.sessions as visits
                on visits.person_id = touched.person_id
                and visits.started_at < touched.rebuild_from
                and visits.ended_at >= touched.rebuild_from - to_minutes($1::int)
            """,
            [read_variables(project).get("session_gap_minutes", 0)],
        ).fetchone()
    return from_warehouse(row[0]) if row and row[0] is not None else None


def _is_kpi(entry: dict[str, object]) -> bool:
    value: object = entry
    for key in ("config", "meta", "segue"):
        value = value.get(key) if isinstance(value, dict) else None
    return isinstance(value, dict) and "kpi" in value
