"""Scoring: a published model as a function of SQL, the same wherever SQL runs.

Promises: a row gets the same number alone in the engine, among a million in the warehouse, and years later; a model is
known by its file, which never changes; a model that is missing, or of another version, gives null and is told once.
Never: trains; decides which model is in force, which `propensity.published` says; unpickles anything.
"""

from segue.scoring.forest import FORM, Contribution, Forest, Scorer, load_scorer, save_scorer
from segue.scoring.function import FUNCTION, register, scorer
from segue.scoring.stability import DRIFTED, Population
from segue.scoring.words import WAYS

__all__ = [
    "DRIFTED",
    "FORM",
    "FUNCTION",
    "WAYS",
    "Contribution",
    "Forest",
    "Population",
    "Scorer",
    "load_scorer",
    "register",
    "save_scorer",
    "scorer",
]
