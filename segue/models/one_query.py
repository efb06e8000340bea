"""What a definition may be: one query over the project's relations, that reads and changes nothing else.

A segment is written by an analyst, reviewed as a list of people, and then run by dbt with the rights of the warehouse
and by the engine. So its text must not be able to read files or settings, to write, or to ask dbt to. Macros,
`dbt_project.yml` and `profiles.yml` belong to whoever runs the installation: what stands there is not looked into.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import jinja2
from jinja2 import meta, nodes

from segue.warehouse import Connection
from segue.warehouse.connect import LAKE

#: Functions in FROM that make rows of what they are given. All others read files, settings, or SQL in a text.
_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree", "repeat", "repeat_row"})
#: Functions that tell of the process or the database instead of its arguments.
_TELLING = frozenset({
    "getenv", "current_setting", "current_query", "current_database", "current_schemas", "in_search_path",
    "nextval", "currval", "write_log", "sleep_ms", "txid_current", "current_user", "version",
})  # fmt: skip
#: The variables that Segue sets.
_VARIABLES = frozenset({"as_of", "window_start", "window_end", "macros_version"})
#: What Jinja offers beyond text: to run SQL while dbt compiles, and to read the environment.
_RUNNING = frozenset({
    "run_query", "statement", "adapter", "api", "env_var", "load_result", "store_result", "store_raw_result", "write",
    "context", "builtins", "modules", "graph", "submit_python_job", "run_hooks", "noop_statement",
    "call_dcl_statements", "create_schema", "drop_schema", "drop_relation", "drop_relation_if_exists",
    "truncate_relation", "rename_relation", "alter_column_type", "alter_relation_add_remove_columns", "apply_grants",
    "persist_docs", "sync_column_schemas", "process_schema_changes",
})  # fmt: skip
#: A hook that calls a macro and says nothing else.
_CALL = re.compile(r"\s*(\{\{-?\s*\w+\([^{}]*\)\s*-?\}\}\s*)?")


def beyond_a_query(con: Connection, sql: str) -> str:
    """What in compiled SQL is more than one query over relations of the project, in a few words; "" when nothing is.

    SQL that DuckDB cannot parse says nothing here: it is refused when it is tried.
    """
    try:
        statements = con.extract_statements(sql)
    except duckdb.Error:
        return ""
    if len(statements) != 1:
        return f"it holds {len(statements)} statements, and a model is one query"
    if statements[0].type != duckdb.StatementType.SELECT:
        return "it is no query"
    tree: Any = json.loads(con.execute("select json_serialize_sql($1::varchar)", [sql]).fetchall()[0][0])
    if tree.get("error"):
        return f"it cannot be looked through ({tree.get('error_message', 'unknown')})"
    parts = list(_objects(tree["statements"]))
    own = {str(entry["key"]).lower() for part in parts for entry in part.get("map", ()) if isinstance(entry, dict)}
    for part in parts:
        if found := _beyond(part, own):
            return found
    return ""


def _beyond(part: Mapping[str, Any], own: set[str]) -> str:
    kind = part.get("type")
    if kind == "BASE_TABLE":
        catalog, schema, table = (str(part.get(key, "")) for key in ("catalog_name", "schema_name", "table_name"))
        if catalog == LAKE and schema not in ("", "main", "information_schema", "pg_catalog"):
            return ""
        if not catalog and not schema and table.lower() in own:
            return ""
        return f"it reads {'.'.join(filter(None, (catalog, schema, table)))}, which is no ref() and no source()"
    if kind == "SHOW_REF":
        return "it asks for what tables there are"
    if kind == "TABLE_FUNCTION":
        name = str(part["function"].get("function_name", "")).lower()
        return "" if name in _TABLE_FUNCTIONS else f"it reads {name}(…), which is no relation of the project"
    if kind == "FUNCTION":
        name = str(part.get("function_name", "")).lower()
        if name in _TELLING or name.startswith(("pg_", "has_", "duckdb_")):
            return f"it calls {name}(…), which tells of the database and not of the data"
        if name == "getvariable":
            said = [child.get("value", {}).get("value") for child in part.get("children", ())]
            return "" if said and said[0] in _VARIABLES else "it reads a variable that is none of Segue's"
    return ""


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    pending = [node]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            yield found
            pending += found.values()
        elif isinstance(found, list):
            pending += found


def beyond_a_template(text: str) -> str:
    """What in a model's file asks dbt for more than text, in a few words; "" when nothing does.

    A template that Jinja cannot read says nothing here: dbt refuses it, in better words.
    """
    try:
        tree = jinja2.Environment(extensions=["jinja2.ext.do"], autoescape=True).parse(text)
    except jinja2.TemplateError:
        return ""
    # A name that the file gives to something is its own. dbt's macros answer to `dbt.run_query` as well.
    names = set(meta.find_undeclared_variables(tree))
    reached = [(node.node, node.attr) for node in tree.find_all(nodes.Getattr)]
    reached += [(node.node, node.arg.as_const()) for node in tree.find_all(nodes.Getitem) if _is_constant(node.arg)]
    names |= {str(name) for of, name in reached if _is_dbt(of) or str(name).startswith("__")}
    for name in sorted(names):
        if name in _RUNNING or name.startswith("__"):
            return f"its template uses {name}, which does more than to write SQL"
    return ""


def _is_constant(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const)


def _is_dbt(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name.startswith("dbt")


def beyond_a_model(config: Mapping[str, Any]) -> str:
    """What a model's configuration has run besides its query, in a few words; "" when nothing is."""
    if config.get("sql_header"):
        return "it has an sql_header"
    for key in ("pre-hook", "post-hook"):
        for hook in _listed(config.get(key)):
            sql = str(hook.get("sql", "") if isinstance(hook, Mapping) else hook)
            if not _CALL.fullmatch(sql) or beyond_a_template(sql):
                return f"its {key} is more than the call of a macro"
    return ""


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value] if value else []
