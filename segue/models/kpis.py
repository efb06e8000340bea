"""Which models are KPIs: those in `models/kpis/` whose YAML says `meta: {segue: {kpi: …}}`.

`kpis.daily` is made of all of them, so that a KPI is one file of SQL and one of YAML and nothing else. dbt has to know
what a model reads when it parses, and cannot look into a folder; so whoever starts dbt tells it, in `SEGUE_KPIS`.
"""

from pathlib import Path

from segue.models.described import YAML, described

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


def _is_kpi(entry: dict[str, object]) -> bool:
    value: object = entry
    for key in ("config", "meta", "segue"):
        value = value.get(key) if isinstance(value, dict) else None
    return isinstance(value, dict) and "kpi" in value
