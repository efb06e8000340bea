"""The tables that dbt reads and Segue makes, so that SQL can be checked with no warehouse at hand.

The rooms that own these tables are on higher floors; a test holds this list against what they create.
"""

from collections.abc import Mapping

from segue.models.project import quote
from segue.warehouse import Connection

_T = "timestamp"
_V = "varchar"

#: schema.table → column → DuckDB type.
TABLES: Mapping[str, Mapping[str, str]] = {
    "raw.events": {
        "message_id": _V, "type": _V, "event": _V, "name": _V, "user_id": _V, "anonymous_id": _V,
        "previous_id": _V, "group_id": _V, "timestamp": _T, "original_timestamp": _T, "sent_at": _T,
        "received_at": _T, "properties": "json", "traits": "json", "context": "json", "source": _V,
        "load_id": "bigint", "message_hash": "ubigint",
    },
    "raw.loads": {
        "load_id": "bigint", "source": _V, "file": _V, "file_size": "bigint", "file_modified_at": _T,
        "read_count": "bigint", "loaded_count": "bigint", "duplicate_count": "bigint",
        "quarantined_count": "bigint", "loaded_at": _T,
    },
    "raw.quarantine": {
        "quarantine_id": _V, "received_at": _T, "reason": _V, "detail": _V, "payload": _V, "source": _V,
        "file": _V, "line": "bigint", "load_id": "bigint", "replayed_at": _T,
    },
    "identity.identifiers": {
        "identifier_type": _V, "identifier_value": _V, "person_id": _V, "first_seen_at": _T,
        "last_seen_at": _T, "assigned_at": _T, "component_id": _V,
    },
    "identity.merges": {
        "merge_id": _V, "merged_at": _T, "from_person_id": _V, "into_person_id": _V, "rule": _V,
        "left_type": _V, "left_value": _V, "right_type": _V, "right_value": _V, "evidence": _V, "recorded_at": _T,
    },
    "identity.refused": {
        "left_type": _V, "left_value": _V, "right_type": _V, "right_value": _V, "rule": _V, "reason": _V,
        "detail": _V, "seen_at": _T, "link_count": "bigint", "refused_at": _T,
    },
    "identity.aliases": {"alias_id": _V, "person_id": _V, "known_at": _T},
    "identity.decisions": {
        "decision_id": _V, "decided_at": _T, "decided_by": _V, "kind": _V, "left_type": _V, "left_value": _V,
        "right_type": _V, "right_value": _V, "rule": _V, "person_id": _V, "note": _V,
    },
    "identity.probable_links": {
        "left_type": _V, "left_value": _V, "right_type": _V, "right_value": _V, "left_person_id": _V,
        "right_person_id": _V, "kind": _V, "score": "double", "precision": "double", "as_of": _T,
    },
    "identity.state": {
        "as_of": _T, "load_id": "bigint", "received_at": _T, "definition": _V, "person_count": "bigint",
        "largest": "bigint",
    },
    "segments.evaluations": {
        "segment": _V, "as_of": _T, "member_count": "bigint", "active_count": "bigint",
        "definition_hash": _V, "exclusive_group": _V, "is_held": "boolean", "recorded_at": _T,
    },
    "segments.transitions": {
        "transition_id": _V, "person_id": _V, "segment": _V, "change": _V, "is_member": "boolean",
        "effective_at": _T, "recorded_at": _T, "cause": _V,
    },
    "segments.memberships": {"person_id": _V, "segment": _V, "entered_at": _T, "exited_at": _T},
    "segments.merged_people": {"from_person_id": _V, "into_person_id": _V, "known_at": _T},
    "propensity.published": {
        "name": _V, "version": _V, "model_file": _V, "published_at": _T, "reason": _V,
    },
    "propensity.versions": {
        "name": _V, "version": _V, "as_of": _T, "status": _V, "reason": _V, "seed": "bigint", "code_version": _V,
        "declaration": "json", "features": "json", "data_hash": _V, "first_cutoff": _T, "last_cutoff": _T,
        "row_count": "bigint", "positive_count": "bigint", "metrics": "json", "model_file": _V,
    },
    "propensity.drift": {
        "name": _V, "version": _V, "as_of": _T, "column": _V, "stability_index": "double",
    },
    "propensity.next_changes": {
        "cohort": _V, "from_segment": _V, "to_segment": _V, "horizon_days": "bigint", "stay_count": "bigint",
        "changed_count": "bigint", "probability": "double", "as_of": _T,
    },
    "clusters.assignments": {
        "person_id": _V, "method": _V, "cluster_id": "integer", "cluster_name": _V, "distance": "double", "as_of": _T,
    },
    "clusters.profiles": {
        "method": _V, "cluster_id": "integer", "cluster_name": _V, "profile": _V, "person_count": "bigint",
        "share": "double", "features": "json", "as_of": _T,
    },
    "clusters.decisions": {
        "method": _V, "as_of": _T, "decision": _V, "agreement": "double", "drift": "double", "drift_column": _V,
        "far_share": "double",
    },
    "clusters.events": {
        "method": _V, "as_of": _T, "event": _V, "cluster_id": "integer", "cluster_name": _V, "others": "json",
        "person_count": "bigint", "explanation": _V,
    },
    "clusters.sizes": {
        "method": _V, "as_of": _T, "cluster_id": "integer", "cluster_name": _V, "person_count": "bigint",
    },
    "clusters.map": {
        "method": _V, "as_of": _T, "cluster_id": "integer", "across": "integer", "up": "integer",
        "person_count": "bigint",
    },
    "clusters.models": {"method": _V, "as_of": _T, "model": _V},
    "clusters.runs": {
        "method": _V, "as_of": _T, "parameters": "json", "criterion": _V, "silhouette": "double",
        "person_count": "bigint", "left_out_count": "bigint",
    },
}  # fmt: skip


def create_empty(con: Connection, relation: str, columns: Mapping[str, str]) -> None:
    """An empty `schema.table` in the default catalog of `con`.

    Args:
        columns: column → DuckDB type; at least one.
    """
    schema, _, table = relation.partition(".")
    con.execute(f"create schema if not exists {quote(schema)}")
    listed = ", ".join(f"{quote(name)} {kind}" for name, kind in columns.items())
    con.execute(f"create table {quote(schema)}.{quote(table)} ({listed})")
