"""Why a person has a score."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segue.errors import BadInputError
from segue.models.project import quote
from segue.propensity.declarations import Propensity
from segue.propensity.tables import in_force
from segue.scoring import load_scorer
from segue.warehouse import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """What one feature does to the odds."""

    feature: str
    value: float | None
    odds_times: float  # above 1 it makes it likelier


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """A score taken apart: its odds are the base times all of the factors."""

    person_id: str
    version: str
    score: float
    base_odds: float
    contributions: tuple[Reason, ...]  # largest first


def why(con: Connection, propensity: Propensity, person_id: str) -> Why:
    """The additive contributions (in log-odds) to a person's score, by the model in force and the newest features.

    Raises:
        BadInputError: when no model is in force, or nothing is known of the person.
    """
    current = in_force(con, propensity.name)
    if current is None:
        raise BadInputError(
            f"no model of {propensity.name} is in force", fix=f"`segue propensity versions {propensity.name}` says why"
        )
    scorer = load_scorer(Path(current[1]))
    columns = ", ".join(f"{quote(f)}::double" for f in scorer.features)
    row = con.execute(f"select {columns} from marts.person_features where person_id = $1", [person_id]).fetchone()
    if row is None:
        raise BadInputError(f"nothing is known of the person {person_id!r}", fix="pass a person_id")
    values = np.array([math.nan if v is None else float(v) for v in row])
    base, parts = scorer.why(values)
    return Why(
        person_id=person_id,
        version=scorer.version,
        score=float(scorer.probability(values.reshape(1, -1))[0]),
        base_odds=math.exp(base),
        contributions=tuple(
            Reason(feature=p.feature, value=p.value, odds_times=math.exp(p.log_odds)) for p in parts if p.log_odds
        ),
    )
