"""dbt on the graph: how a model becomes an asset, and how models are built."""

import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings
from dagster_dbt.asset_utils import get_updated_cli_invocation_params_for_context
from dagster_dbt.core.dbt_cli_invocation import DbtCliInvocation
from packaging.version import Version

from orchestration import automation
from orchestration.automation import DAYS
from orchestration.lineage import trace
from segue.clock import parse_as_of
from segue.models import Model, Project, dbt_environment
from segue.settings import Settings
from segue.warehouse import Connection, Warehouse

#: Folders of the dbt project whose models are rebuilt day by day.
PARTITIONED = frozenset({"kpis"})

#: Says as of when a model was built.
AS_OF_METADATA = "segue/as_of"

#: Says from which moment on a build changed the past; KPIs of the days since then are stale.
CHANGED_SINCE = "segue/changed_since"
NEVER = "never"

#: After more builds than this without a build of the KPIs, all days are built.
_BUILDS_LOOKED_AT = 200

#: Finished dbt runs whose artefacts are kept.
_KEPT_RUNS = 20

_Event = dg.Output | dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckResult | dg.AssetCheckEvaluation


class Translator(DagsterDbtTranslator):
    """A model's place on the graph: key `[schema, table]`, grouped by folder, owned as its YAML says."""

    def __init__(self, project: Project, settings: Settings) -> None:
        super().__init__(DagsterDbtTranslatorSettings())
        self._models = project.by_name
        self._sources = settings.dbt_project

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        table = dbt_resource_props.get("identifier") or dbt_resource_props.get("alias") or dbt_resource_props["name"]
        return dg.AssetKey([dbt_resource_props["schema"], table])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return _meta(dbt_resource_props, "dagster").get("group") or folder_of(dbt_resource_props)

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str]:
        return _meta(dbt_resource_props, "dagster").get("owners") or ["team:data"]

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        text = dbt_resource_props.get("description") or ""
        sql = dbt_resource_props.get("raw_code")
        return f"{text}\n\n```sql\n{sql.strip()}\n```" if sql else text

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        # The compiled SQL, so that an edited macro or threshold counts as an edit of each model that uses it.
        model = self._models.get(dbt_resource_props["name"])
        if model is None:
            return super().get_code_version(dbt_resource_props)
        return code_version(model)

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition | None:
        if dbt_resource_props["resource_type"] == "source":
            return None
        if folder_of(dbt_resource_props) not in PARTITIONED:
            return automation.REFRESH
        if self.get_asset_key(dbt_resource_props) == automation.ALL_KPIS:
            return automation.REFRESH_ALL_KPIS
        model = self._models.get(dbt_resource_props["name"])
        is_kpi = model is not None and "kpi" in (model.meta.get("segue") or {})
        return automation.REFRESH_KPI if is_kpi else automation.REFRESH_TODAY

    def get_partitions_def(self, dbt_resource_props: Mapping[str, Any]) -> dg.PartitionsDefinition | None:
        return automation.DAYS if folder_of(dbt_resource_props) in PARTITIONED else None

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        path = self._sources / dbt_resource_props["original_file_path"]
        return {
            **super().get_metadata(dbt_resource_props),
            "segue": dg.MetadataValue.json(_meta(dbt_resource_props, "segue")),
            "dagster/code_references": dg.CodeReferencesMetadataValue(
                code_references=[dg.LocalFileCodeReference(file_path=str(path))]
            ),
        }


def code_version(model: Model) -> str:
    """Changes when the model would build something else by its own text; not when an upstream model changes."""
    return digest([model.compiled_sql, model.materialized, model.meta.get("segue")])


def digest(value: object) -> str:
    """A short text that changes when the value does; of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def folder_of(props: Mapping[str, Any]) -> str:
    """The folder under `models/` that a dbt resource lies in."""
    parts = Path(props["original_file_path"]).parts
    return parts[1] if len(parts) > 2 else "dbt"


def _meta(props: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    meta = props.get("config", {}).get("meta") or props.get("meta") or {}
    return meta.get(key) or {}


def build(
    context: dg.AssetExecutionContext,
    *,
    project: Project,
    warehouse: Warehouse,
    as_of: datetime,
    full_refresh: bool,
    window: tuple[datetime, datetime] | None = None,
    more: Callable[[Connection, dg.AssetKey], Mapping[str, Any]] = lambda _con, _key: {},
) -> Iterator[_Event]:
    """Build the selected models and run their tests.

    One process, which holds the writer lock while it runs.

    Args:
        project: the published state to build from.
        as_of: the time dbt works with.
        full_refresh: forget what incremental models hold.
        window: the first instant that a partitioned run rebuilds, and the first one after it; None: all.
        more: further metadata of a model that has just been built.

    Raises:
        dg.Failure: when a model could not be built; names each with dbt's message. Models that do not
            depend on it have been built and reported by then.
    """
    settings = warehouse.settings
    params = get_updated_cli_invocation_params_for_context(context, {}, DagsterDbtTranslator())
    target = _target_folder(settings, project, context)
    # Unit tests say nothing about the data: `make test` runs them, not every refresh.
    arguments = ["build", "--exclude-resource-type", "unit_test", *(["--full-refresh"] if full_refresh else [])]
    invocation = DbtCliInvocation.run(
        args=[_dbt_program(), *arguments, *params.selection_args],
        env={
            **os.environ,
            **dbt_environment(settings, as_of=as_of, window=window, project=project.project_dir),
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(target),
            "DBT_LOG_FORMAT": "json",
            "DBT_PROJECT_DIR": str(project.project_dir),
            "PYTHONUNBUFFERED": "1",
            **({"DBT_INDIRECT_SELECTION": params.indirect_selection} if params.indirect_selection else {}),
        },
        manifest=params.manifest,
        dagster_dbt_translator=params.dagster_dbt_translator,
        project_dir=project.project_dir,
        target_path=target,
        raise_on_error=False,
        context=context,
        # No adapter: dagster-dbt would open the warehouse itself, as a writer.
        adapter=None,
        cli_version=Version("1.11"),
    )
    columns = _Columns(project, settings.dbt_home / "lineage")
    con = warehouse.connect(as_of=as_of)
    try:
        for event in invocation.stream():
            if isinstance(event, dg.Output):
                key = context.assets_def.keys_by_output_name[event.output_name]
                metadata = {**event.metadata, **columns.metadata(key), **_table_metadata(con, key), **more(con, key)}
                metadata[AS_OF_METADATA] = dg.MetadataValue.text(as_of.isoformat())
                event = event.with_metadata(metadata)
            yield event
    finally:
        con.close()
    if not invocation.is_successful():
        _explain(invocation, target)


def _explain(invocation: DbtCliInvocation, target: Path) -> None:
    """Raise with dbt's words for each model that failed; failed tests have spoken as asset checks."""
    results = target / "run_results.json"
    failed: dict[str, str] = {}
    if results.exists():
        for result in json.loads(results.read_text())["results"]:
            kind, _, name = result["unique_id"].partition(".")
            if kind in {"model", "seed", "snapshot"} and result["status"] == "error":
                failed[name.partition(".")[2]] = " ".join((result["message"] or "").split())
    else:
        error = invocation.get_error()
        raise dg.Failure(f"dbt did not run: {error}", metadata={"log": dg.MetadataValue.path(str(target / "dbt.log"))})
    if failed:
        lines = [f"{name}: {message}" for name, message in failed.items()]
        raise dg.Failure(
            "dbt could not build " + "\n".join(lines),
            metadata={
                "failed": dg.MetadataValue.json(failed),
                "log": dg.MetadataValue.path(str(target / "dbt.log")),
            },
            allow_retries=False,
        )


class _Columns:
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


def _table_metadata(con: Connection, key: dg.AssetKey) -> Mapping[str, Any]:
    """Rows and typed columns of a relation as it now is."""
    name = ".".join('"' + part.replace('"', '""') + '"' for part in key.path)
    count = con.execute(f"select count(*) from {name}").fetchone()
    columns = con.execute(f"describe {name}").fetchall()
    return {
        "dagster/row_count": count[0] if count else 0,
        "dagster/column_schema": dg.TableSchema([dg.TableColumn(name=c[0], type=c[1].lower()) for c in columns]),
    }


def _target_folder(settings: Settings, project: Project, context: dg.AssetExecutionContext) -> Path:
    """A folder for one dbt process, with the parsed project in it, so that dbt parses nothing."""
    runs = settings.dbt_home / "runs"
    target = runs / f"{context.op_execution_context.op.name}-{context.run_id[:8]}-{uuid.uuid4().hex[:6]}"
    target.mkdir(parents=True)
    parsed = project.target_dir / "partial_parse.msgpack"
    if parsed.exists():
        shutil.copy(parsed, target)
    old = sorted((p for p in runs.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)[:-_KEPT_RUNS]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _dbt_program() -> str:
    """dbt of this environment, also when its `bin` is not on the path."""
    beside = Path(sys.executable).with_name("dbt")
    return str(beside) if beside.exists() else "dbt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """The last time that a model was built."""

    as_of: datetime
    at: float  # seconds of the epoch


def last_build(instance: dg.DagsterInstance, key: dg.AssetKey) -> Build | None:
    """When a model was last built, and as of when; None when Dagster never built it."""
    entry = instance.get_latest_materialization_event(key)
    if entry is None or entry.asset_materialization is None:
        return None
    noted = entry.asset_materialization.metadata.get(AS_OF_METADATA)
    return Build(as_of=parse_as_of(str(noted.value)), at=entry.timestamp) if noted is not None else None


def is_before_last_build(context: dg.AssetExecutionContext, as_of: datetime) -> bool:
    """Whether any selected model holds a later state than `as_of`, so that incremental models must start over."""
    builds = (last_build(context.instance, key) for key in context.selected_asset_keys)
    return any(build is not None and build.as_of > as_of for build in builds)


def note_days(
    context: dg.AssetExecutionContext, key: dg.AssetKey, days: Iterable[date], metadata: Mapping[str, Any]
) -> None:
    """Mark days as materialised that were filled in beyond the partitions of the run; each day once."""
    known = context.instance.get_materialized_partitions(key)
    for day in days:
        if day.isoformat() not in known and DAYS.has_partition_key(day.isoformat()):
            context.log_event(dg.AssetMaterialization(asset_key=key, partition=day.isoformat(), metadata=metadata))


def changed_since(instance: dg.DagsterInstance, kpi: dg.AssetKey, upstream: Iterable[dg.AssetKey]) -> datetime | None:
    """The earliest midnight from which builds of `upstream` after the last build of a KPI have changed the past.

    None when it is unknown: all days must be built.
    """
    last = instance.fetch_materializations(kpi, limit=1).records
    if not last:
        return None
    moments = [last[0].event_log_entry.timestamp]
    for key in upstream:
        later = dg.AssetRecordsFilter(asset_key=key, after_storage_id=last[0].storage_id)
        records = instance.fetch_materializations(later, limit=_BUILDS_LOOKED_AT).records
        if len(records) == _BUILDS_LOOKED_AT:
            return None
        for record in records:
            noted = record.asset_materialization.metadata.get(CHANGED_SINCE) if record.asset_materialization else None
            if noted is None:
                return None
            if noted.value != NEVER:
                moments.append(datetime.fromisoformat(str(noted.value)).timestamp())
    return datetime.fromtimestamp(min(moments), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
