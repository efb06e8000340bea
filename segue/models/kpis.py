"""Which models are KPIs: those in `models/kpis/` whose YAML says `meta: {segue: {kpi: …}}`.

`kpis.daily` is made of all of them, so that a KPI is one file of SQL and one of YAML and nothing else. dbt has to know
what a model reads when it parses, and cannot look into a folder; so whoever starts dbt tells it, in `SEGUE_KPIS`.
"""

from pathlib import Path

import yaml

#: The variable that dbt reads the list from.
VARIABLE = "SEGUE_KPIS"


def kpi_models(project: Path) -> tuple[str, ...]:
    """Names of the KPI models of a dbt project, sorted; YAML that cannot be read is dbt's to complain of."""
    found = set()
    for path in sorted((project / "models" / "kpis").glob("*.y*ml")):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        entries = content.get("models") if isinstance(content, dict) else None
        for entry in entries if isinstance(entries, list) else []:
            name = entry.get("name") if isinstance(entry, dict) else None
            if name and _is_kpi(entry) and (path.parent / f"{name}.sql").is_file():
                found.add(str(name))
    return tuple(sorted(found))


def _is_kpi(entry: dict[str, object]) -> bool:
    value: object = entry
    for key in ("config", "meta", "segue"):
        value = value.get(key) if isinstance(value, dict) else None
    return isinstance(value, dict) and "kpi" in value
