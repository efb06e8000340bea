"""The dbt project as Segue sees it: compiled, checked, and run as of any time.

Promises: a broken definition is left out and named, and all others work; what is published is whole, and dbt, Dagster
and the evaluation in memory all work with that same state.
Never: takes the writer lock or opens the warehouse to compile; rewrites compiled SQL; knows a segment's history.
"""

from segue.models.check import empty_lake
from segue.models.described import without_model
from segue.models.environment import dbt_environment
from segue.models.evaluate import Evaluation, Evaluator, Stitch, evaluate, run_chain
from segue.models.kpis import stale_since
from segue.models.person_local import Refusal, person_local, warehouse_only
from segue.models.prepare import fingerprint_of, prepare, published
from segue.models.project import BrokenModel, Model, Project

__all__ = [
    "BrokenModel",
    "Evaluation",
    "Evaluator",
    "Model",
    "Project",
    "Refusal",
    "Stitch",
    "dbt_environment",
    "empty_lake",
    "evaluate",
    "fingerprint_of",
    "person_local",
    "prepare",
    "published",
    "run_chain",
    "stale_since",
    "warehouse_only",
    "without_model",
]
