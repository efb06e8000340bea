"""From dbt's manifest to models."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segue.models.check import no_query
from segue.models.one_query import beyond_a_model
from segue.models.project import BrokenModel, Model


def read_models(target: Path) -> tuple[tuple[Model, ...], dict[str, dict[str, str]]]:
    """The models of a compiled target folder, upstream first, and the typed columns of the sources.

    Only what has SQL of its own counts: models and seeds are relations, an ephemeral model is part of its readers.
    """
    manifest: dict[str, Any] = json.loads((target / "manifest.json").read_text())
    nodes = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    sources: dict[str, dict[str, str]] = {}
    for source in manifest["sources"].values():
        columns = {c["name"]: c["data_type"] for c in source["columns"].values() if c.get("data_type")}
        sources[f"{source['schema']}.{source['identifier']}"] = columns
    hashes: dict[str, str] = {}
    models: list[Model] = []
    for key in _upstream_first(nodes):
        node = nodes[key]
        sql = _compiled(node, target)
        parents = [p for p in node["depends_on"]["nodes"] if p in nodes]
        hashes[key] = hashlib.sha256("\0".join([sql, *sorted(hashes[p] for p in parents)]).encode()).hexdigest()[:16]
        if node["config"]["materialized"] == "ephemeral":
            continue
        models.append(
            Model(
                name=node["name"],
                schema=node["schema"],
                identifier=node["alias"],
                path=node["original_file_path"],
                materialized=node["config"]["materialized"],
                is_append_only=node["config"]["materialized"] == "incremental"
                and node["config"].get("incremental_strategy") == "append",
                description=node["description"],
                depends_on=tuple(sorted({nodes[p]["name"] for p in _relations(parents, nodes)})),
                sources=tuple(sorted(_sources(key, nodes, manifest["sources"]))),
                meta=node["config"].get("meta") or node.get("meta") or {},
                compiled_sql=sql,
                definition_hash=hashes[key],
            )
        )
    return tuple(models), sources


def read_orders(target: Path) -> tuple[BrokenModel, ...]:
    """Models whose configuration has more run than their query."""
    manifest: dict[str, Any] = json.loads((target / "manifest.json").read_text())
    nodes = (node for node in manifest["nodes"].values() if node["resource_type"] == "model")
    found = ((node, beyond_a_model(node["config"])) for node in nodes)
    return tuple(no_query(node["name"], node["original_file_path"], beyond) for node, beyond in found if beyond)


def _compiled(node: Mapping[str, Any], target: Path) -> str:
    code = node.get("compiled_code")
    if code is None:
        path = target / "compiled" / node["package_name"] / node["original_file_path"]
        code = path.read_text() if path.exists() else ""
    return str(code).strip()


def _upstream_first(nodes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    done: dict[str, None] = {}

    def visit(key: str) -> None:
        if key not in done:
            for parent in sorted(p for p in nodes[key]["depends_on"]["nodes"] if p in nodes):
                visit(parent)
            done[key] = None

    for key in sorted(nodes):
        visit(key)
    return list(done)


def _relations(parents: list[str], nodes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Parents that are relations: an ephemeral parent stands for its own parents."""
    found: list[str] = []
    for parent in parents:
        if nodes[parent]["config"]["materialized"] == "ephemeral":
            found += _relations([p for p in nodes[parent]["depends_on"]["nodes"] if p in nodes], nodes)
        else:
            found.append(parent)
    return found


def _sources(key: str, nodes: Mapping[str, Mapping[str, Any]], sources: Mapping[str, Mapping[str, Any]]) -> set[str]:
    found: set[str] = set()
    for parent in nodes[key]["depends_on"]["nodes"]:
        if parent in sources:
            found.add(f"{sources[parent]['schema']}.{sources[parent]['identifier']}")
        elif parent in nodes and nodes[parent]["config"]["materialized"] == "ephemeral":
            found |= _sources(parent, nodes, sources)
    return found
