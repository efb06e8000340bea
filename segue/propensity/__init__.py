"""Propensity: what a person will probably do, learnt from what was known at past dates and checked against what came.

Promises: a feature of a past date is what the analysts' models say of the messages received by then; a model is in
force only while it beats doing without, and the reason is told when none is; a version is made again by its id.
Never: reads a table as it is today for a past date; lets a failed training touch the model in force.
"""

from segue.propensity.declarations import LeakError, Propensity, propensities
from segue.propensity.examples import Examples, examples
from segue.propensity.next_changes import NextChange, next_changes
from segue.propensity.refresh import PropensityReport, model_path, refresh, reproduce
from segue.propensity.tables import Version, ensure_tables, in_force, publish, rollback, versions, withdraw, withdrawn
from segue.propensity.train import Backtest, Trained, train

__all__ = [
    "Backtest",
    "Examples",
    "LeakError",
    "NextChange",
    "Propensity",
    "PropensityReport",
    "Trained",
    "Version",
    "ensure_tables",
    "examples",
    "in_force",
    "model_path",
    "next_changes",
    "propensities",
    "publish",
    "refresh",
    "reproduce",
    "rollback",
    "train",
    "versions",
    "withdraw",
    "withdrawn",
]
