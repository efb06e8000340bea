"""dbt on the graph: how a model becomes an asset, and how models are built."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings
from dagster_dbt.asset_utils import get_updated_cli_invocation_params_for_context
from dagster_dbt.core.dbt_cli_invocation import DbtCliInvocation
from packaging.version import Version

from orchestration import automation, spare
from orchestration.builds import AS_OF_METADATA
from orchestration.keys import DAILY
from orchestration.lineage import ColumnLineage
from segue.models import Model, Project, dbt_environment
from segue.settings import Settings, dbt_child_environment
from segue.warehouse import Connection, Warehouse, too_long

#: Folders of the dbt project whose models are rebuilt day by day.
PARTITIONED = frozenset({"kpis"})

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
        if self.get_asset_key(dbt_resource_props) == DAILY:
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
    another_follows: bool = False,
    more: Callable[[Connection, dg.AssetKey], Mapping[str, Any]] = lambda _con, _key: {},
) -> Iterator[_Event]:
    """Build the selected models and run their tests.

    One process, which holds the writer lock while it runs.

    Args:
        project: the published state to build from.
        as_of: the time dbt works with.
        full_refresh: forget what incremental models hold.
        window: the first instant that a partitioned run rebuilds, and the first one after it; None: all.
        another_follows: this run will build again, so the next dbt may load meanwhile.
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
    environment = dbt_child_environment(
        {
            **dbt_environment(settings, as_of=as_of, window=window, project=project.project_dir),
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(target),
            "DBT_LOG_FORMAT": "json",
            "DBT_PROJECT_DIR": str(project.project_dir),
            **({"DBT_INDIRECT_SELECTION": params.indirect_selection} if params.indirect_selection else {}),
        }
    )
    invocation = DbtCliInvocation(
        process=spare.start([*arguments, *params.selection_args], env=environment, cwd=project.project_dir),
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
    if another_follows:
        spare.make_ready()
    columns = ColumnLineage(project, settings.dbt_home / "lineage")
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
        _explain(invocation, target, settings)


def _explain(invocation: DbtCliInvocation, target: Path, settings: Settings) -> None:
    """Raise with dbt's words for each model that failed; failed tests have spoken as asset checks."""
    results = target / "run_results.json"
    failed: dict[str, str] = {}
    if results.exists():
        for result in json.loads(results.read_text())["results"]:
            kind, _, name = result["unique_id"].partition(".")
            if kind in {"model", "seed", "snapshot"} and result["status"] == "error":
                message = " ".join((result["message"] or "").split())
                # How dbt tells that the database was interrupted, which is what our limit does.
                if "INTERRUPT Error" in message:
                    message = too_long(settings.model_seconds)
                failed[name.partition(".")[2]] = settings.without_secrets(message)
    else:
        error = settings.without_secrets(str(invocation.get_error()))
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
