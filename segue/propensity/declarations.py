"""What a propensity is asked to be: a model in `models/propensity` (who, what), and its YAML (how far, from what)."""

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from segue.errors import DefinitionError
from segue.models import Model, Project

SCHEMA = "propensity"
FEATURES = "person_features"

_KEYS = ("score", "horizon_days", "refit_days", "margin", "features")


@dataclass(frozen=True, slots=True, kw_only=True)
class Propensity:
    """A question about people, as its analyst declared it."""

    name: str
    description: str
    score: str  # the column of marts.person_scores
    horizon_days: int
    refit_days: int  # a model older than this is trained anew
    margin: float  # by which the AUC has to be ahead of recency alone
    features: tuple[str, ...]  # columns of marts.person_features
    relation: str  # schema.table with is_eligible and is_success
    path: str
    definition_hash: str  # of the SQL that asks

    @property
    def fingerprint(self) -> str:
        """Changes when another question is asked, or it is answered from something else."""
        said = {k: v for k, v in asdict(self).items() if k not in ("description", "refit_days", "margin", "path")}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def propensities(project: Project) -> tuple[Propensity, ...]:
    """Every propensity of the project, by name: the models of the schema `propensity`.

    Raises:
        DefinitionError: when the YAML of one says something that means nothing.
        LeakError: when one is made from a table that cannot be seen as it was at a past date.
    """
    models = sorted((m for m in project.models if m.schema == SCHEMA), key=lambda m: m.name)
    found = tuple(_propensity(model) for model in models)
    for one in found:
        refuse_leaks(project, one)
    return found


class LeakError(DefinitionError):
    """A model would learn from what nobody knew at the time."""


def refuse_leaks(project: Project, propensity: Propensity) -> None:
    """Refuse a propensity when anything it is made from cannot be seen as it was at a past date.

    Features of a past date are made by running the models on the messages that had been received by then, with
    identity stitched from these. Any other table would be read as it is today.

    Raises:
        LeakError: naming the model and the table.
    """
    for model in project.upstream([propensity.name, FEATURES]):
        for relation in model.sources:
            if relation != "raw.events" and not relation.startswith("identity."):
                raise LeakError(
                    f"{model.path}: it reads {relation}, which is there only as it is today, so that the propensity "
                    f"{propensity.name} would learn from what came after the date it is asked about",
                    fix="leave the table out of person_features, or bring its rows in as events",
                )


def _propensity(model: Model) -> Propensity:
    where = f"propensity {model.name} ({model.path})"
    segue = model.meta.get("segue")
    said: Any = segue.get("propensity") if isinstance(segue, Mapping) else None
    if not isinstance(said, Mapping):
        raise DefinitionError(
            f"{where}: its YAML has no meta.segue.propensity",
            fix="write `propensity: {score: NAME, horizon_days: 14, features: [...]}`",
        )
    for key in said:
        if key not in _KEYS:
            close = difflib.get_close_matches(str(key), _KEYS, n=1)
            raise DefinitionError(
                f"{where}: meta.segue.propensity has the unknown key {key!r}",
                fix=f"did you mean {close[0]}?" if close else f"known keys: {', '.join(_KEYS)}",
            )
    features = said.get("features")
    if not isinstance(features, list) or not features or not all(isinstance(f, str) for f in features):
        raise DefinitionError(
            f"{where}: features is {features!r}, not a list of columns", fix="list columns of marts.person_features"
        )
    margin = said.get("margin", 0.02)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < 0.5:
        raise DefinitionError(f"{where}: margin is {margin!r}, not between 0 and 0.5", fix="write `margin: 0.02`")
    return Propensity(
        name=model.name,
        description=model.description,
        score=str(said.get("score", model.name)),
        horizon_days=_days(said.get("horizon_days", 14), "horizon_days", where),
        refit_days=_days(said.get("refit_days", 7), "refit_days", where),
        margin=float(margin),
        features=tuple(dict.fromkeys(features)),
        relation=model.relation,
        path=model.path,
        definition_hash=model.definition_hash,
    )


def _days(value: Any, key: str, where: str) -> int:
    if type(value) is not int or not 1 <= value <= 366:
        raise DefinitionError(f"{where}: {key} is {value!r}, not a number of days", fix=f"write `{key}: 14`")
    return value
