"""Which column of an asset comes from which, as Dagster shows it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from segue.models import Project
from segue.models.lineage import trace


class ColumnLineage:
    """Columns and their lineage, traced from upstream to downstream as far as a model needs it."""

    def __init__(self, project: Project, cache: Path) -> None:
        self._project = project
        self._cache = cache
        self._known: dict[str, Sequence[str]] = {
            name: list(columns) for name, columns in project.source_columns.items()
        }
        self._by_relation = {model.relation: model for model in project.models}
        self._traced: dict[str, Mapping[str, Any]] = {}

    def metadata(self, key: dg.AssetKey) -> Mapping[str, Any]:
        """What Dagster shows of the columns of a relation; empty when they cannot be traced."""
        relation = ".".join(key.path)
        self._trace(relation)
        return self._traced.get(relation, {})

    def _trace(self, relation: str) -> Sequence[str]:
        if relation in self._known:
            return self._known[relation]
        self._known[relation] = []
        model = self._by_relation.get(relation)
        if model is None:
            return []
        upstream = [self._project.by_name[name].relation for name in model.depends_on] + list(model.sources)
        parents = {name: self._trace(name) for name in upstream}
        found = trace(model.compiled_sql, parents, cache=self._cache)
        if found is None:
            return []
        self._known[relation] = found.names
        lineage = dg.TableColumnLineage(
            {
                column: [
                    dg.TableColumnDep(asset_key=dg.AssetKey(source.split(".")), column_name=name)
                    for source, name in sources
                    if source in parents
                ]
                for column, sources in found.parents.items()
            }
        )
        self._traced[relation] = {"dagster/column_lineage": lineage}
        return found.names
