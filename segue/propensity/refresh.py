"""One round: train what is due, put what is better in force, measure drift."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np

from segue.clock import to_warehouse
from segue.errors import BadInputError
from segue.models import Project, Stitch
from segue.models.project import quote
from segue.propensity.declarations import FEATURES, Propensity
from segue.propensity.examples import MOST_PEOPLE, Examples, examples
from segue.propensity.metrics import quality
from segue.propensity.tables import Version, ensure_tables, in_force, publish, versions, withdrawn, write_version
from segue.propensity.train import Backtest, Trained, populations, train
from segue.scoring import DRIFTED, Population, load_scorer, save_scorer
from segue.warehouse import Connection, Warehouse

log = logging.getLogger(__name__)

#: A challenger may be this much worse than the champion on the newest date, since it knows more recent people.
_TOLERANCE = 1.01


@dataclass(frozen=True, kw_only=True)
class PropensityReport:
    """What a round came to for one propensity."""

    propensity: Propensity
    status: str  # published, challenger, refused, kept
    reason: str
    version: str | None  # in force afterwards
    trained: Trained | None  # None: nothing was due
    drift: Mapping[str, float]  # column → stability index, features and score; empty when the version came in force now

    @property
    def backtest(self) -> Backtest | None:
        """Of a training in this round."""
        return self.trained.backtest if self.trained is not None else None

    @property
    def drifted(self) -> tuple[str, ...]:
        """Columns that are not distributed any more as when the model was trained."""
        return tuple(sorted(name for name, index in self.drift.items() if index > DRIFTED))


def refresh(
    warehouse: Warehouse,
    project: Project,
    wanted: Sequence[Propensity],
    *,
    as_of: datetime,
    seed: int = 0,
    stitch: Stitch | None = None,
    force: bool = False,
    most_people: int = MOST_PEOPLE,
) -> tuple[PropensityReport, ...]:
    """Train what is due, and put in force what is better than doing without and not worse than what is in force.

    Due is what was never trained, is declared otherwise than then, was trained `refit_days` ago, or has drifted
    (`segue.scoring.Population`) since a time when a model can be judged fairly again. Training reads a state of the
    warehouse and keeps nobody from writing; only the result is written under the lock. What cannot be trained leaves
    the last good model in force.

    Args:
        as_of: the end of the last horizon; from then on a new model is in force.
        force: train although nothing is due.
    """
    if not wanted:
        return ()
    with warehouse.read(as_of=as_of) as con:
        known = {p.name: versions(con, p.name) for p in wanted}
        current = {p.name: in_force(con, p.name, as_of=as_of) for p in wanted}
        drift = {p.name: _drift(con, p, known[p.name], current[p.name]) for p in wanted}
        due = {p.name: "asked for" if force else _why_due(p, known[p.name], drift[p.name], as_of) for p in wanted}
        asked = [p for p in wanted if due[p.name]]
        found = examples(project, con, asked, as_of=as_of, stitch=stitch, most_people=most_people) if asked else {}
    trained = {p.name: train(found[p.name], as_of=as_of, seed=seed) for p in asked if p.name in found}
    reports = []
    with warehouse.write("propensity", as_of=as_of) as con:
        ensure_tables(con)
        for p in wanted:
            champion = current[p.name]
            if p.name in trained:
                report = _decide(con, warehouse, p, trained[p.name], champion, as_of=as_of, seed=seed)
            elif due[p.name]:
                report = PropensityReport(
                    propensity=p, status="refused", trained=None, drift={}, version=champion[0] if champion else None,
                    reason=f"the history is too short: the first date to learn from is three weeks after its begin, "
                    f"and its outcome is known {p.horizon_days} days later",
                )  # fmt: skip
                _remember_refusal(con, p, report.reason, as_of=as_of, seed=seed)
            else:
                last = known[p.name][0]
                report = PropensityReport(
                    propensity=p, status="kept", trained=None, drift={}, version=champion[0] if champion else None,
                    reason=f"trained as of {last.as_of:%Y-%m-%d} ({last.status}: {last.reason}); due every "
                    f"{p.refit_days} days",
                )  # fmt: skip
            if champion is not None:
                _write_drift(con, p.name, champion[0], drift[p.name], as_of)
                if report.version == champion[0]:
                    report = replace(report, drift=drift[p.name])
            reports.append(report)
    return tuple(reports)


def reproduce(
    warehouse: Warehouse, project: Project, propensity: Propensity, version: Version, *, stitch: Stitch | None = None
) -> str:
    """Train a version again from its date and seed, and say whether the same file comes out.

    Raises:
        BadInputError: when another model comes out, with what differs.
    """
    with warehouse.read(as_of=version.as_of) as con:
        found = examples(project, con, [propensity], as_of=version.as_of, stitch=stitch)
    again = train(found[propensity.name], as_of=version.as_of, seed=version.seed) if propensity.name in found else None
    scorer = again.scorer if again is not None else None
    if again is None or scorer is None or scorer.version != version.version:
        differs = (
            "it is declared otherwise now" if propensity.fingerprint != version.fingerprint
            else "the events or identities of then are not the same any more"
            if again is None or again.examples.data_hash != version.data_hash
            else "the code or its libraries are of another version"
        )  # fmt: skip
        raise BadInputError(
            f"{propensity.name} {version.version} cannot be made again: {differs}",
            fix="its file still scores; check out the code of then, or train anew: `segue propensity train`",
        )
    path = model_path(warehouse, propensity.name, scorer.version)
    if not path.exists():
        save_scorer(scorer, path)
        return f"{path} was missing and is there again"
    kept = load_scorer(path)
    same = np.array_equal(kept.forest.value, scorer.forest.value) and kept.slope == scorer.slope
    if not same:
        raise BadInputError(
            f"{path} holds another model than training gives", fix="remove the file, and reproduce again"
        )
    return f"the same model, tree by tree: {path}"


def model_path(warehouse: Warehouse, name: str, version: str) -> Path:
    """Where the file of a version lies. It never changes."""
    return warehouse.settings.home / "models" / name / f"{version}.npz"


def _why_due(p: Propensity, known: Sequence[Version], drift: Mapping[str, float], as_of: datetime) -> str:
    if not known:
        return "it was never trained"
    last = known[0]
    if last.fingerprint != p.fingerprint:
        return "it is declared otherwise now"
    if as_of - last.as_of >= timedelta(days=p.refit_days):
        return f"it was trained {(as_of - last.as_of).days} days ago"
    moved = [c for c, index in drift.items() if index > DRIFTED]
    # Nothing can take a champion's place before it can be judged on what it has not learnt from. Then once a day is
    # enough: what drifts keeps drifting.
    champion = next((v for v in known if v.status == "published"), last)
    can_be_judged = as_of - champion.as_of >= timedelta(days=p.horizon_days)
    if moved and can_be_judged and as_of - last.as_of >= timedelta(days=1):
        return f"{', '.join(moved)} drifted"
    return ""


def _decide(
    con: Connection,
    warehouse: Warehouse,
    p: Propensity,
    trained: Trained,
    champion: tuple[str, str] | None,
    *,
    as_of: datetime,
    seed: int,
) -> PropensityReport:
    scorer, reason, status = trained.scorer, trained.refusal, "refused"
    file = None
    if scorer is not None:
        path = model_path(warehouse, p.name, scorer.version)
        if not path.exists():
            save_scorer(scorer, path)
        file = str(path)
    if scorer is not None and not reason:
        gone = withdrawn(con, p.name, as_of=as_of)
        if gone is None:
            status, reason = _against_champion(trained, champion)
        else:
            status = "challenger"
            reason = (
                f"the model was withdrawn ({gone}), and stays so until "
                f"`segue propensity rollback {p.name} --to {scorer.version}` puts this one in force"
            )
    if status == "published" and scorer is not None:
        publish(con, p.name, version=scorer.version, model_file=file, as_of=as_of, reason=reason)
    write_version(
        con, p, trained, as_of=as_of, seed=seed, status=status, reason=reason, model_file=file,
        populations=populations(trained.examples, scorer) if scorer is not None else {},
    )  # fmt: skip
    version = scorer.version if status == "published" and scorer is not None else champion[0] if champion else None
    return PropensityReport(propensity=p, status=status, reason=reason, version=version, trained=trained, drift={})


def _against_champion(trained: Trained, champion: tuple[str, str] | None) -> tuple[str, str]:
    """Whether a model that is worth it takes the place of the one in force, and why."""
    backtest, examples_ = trained.backtest, trained.examples
    assert backtest is not None
    ahead = f"AUC {backtest.model.auc:.3f}, {backtest.model.auc - backtest.recency.auc:+.3f} against recency alone"
    if champion is None:
        return "published", ahead
    try:
        old = load_scorer(Path(champion[1]))
    except BadInputError as error:
        return "published", f"{ahead}; the one in force could not be used: {error.message}"
    missing = [f for f in old.features if f not in examples_.propensity.features]
    if missing or old.about.get("fingerprint") != examples_.propensity.fingerprint:
        return "published", f"{ahead}; the one in force answered another declaration"
    learnt = datetime.fromisoformat(str(old.about["as_of"]))
    if backtest.dates[-1] < learnt:
        fair = learnt + timedelta(days=examples_.propensity.horizon_days)
        return "challenger", (
            f"the champion {champion[0]} stays: it has learnt from what became of people until {learnt:%Y-%m-%d}, so "
            f"it can be judged fairly from {fair:%Y-%m-%d} on"
        )
    rows, mine = backtest.newest
    places = [examples_.propensity.features.index(f) for f in old.features]
    theirs = old.probability(examples_.matrix[rows][:, places])
    new, before = (quality(examples_.labels[rows], s).log_loss for s in (mine, theirs))
    told = f"log-loss {new:.4f} against {before:.4f} of the champion {champion[0]} on the newest date"
    if new <= before * _TOLERANCE:
        return "published", f"{ahead}; {told}"
    return "challenger", f"the champion stays: {told}"


def _remember_refusal(con: Connection, p: Propensity, reason: str, *, as_of: datetime, seed: int) -> None:
    nothing = Examples(
        propensity=p, cutoffs=(), matrix=np.empty((0, len(p.features))), labels=np.empty(0, dtype=bool),
        at=np.empty(0, dtype=np.int64), people=np.empty(0, dtype=np.int64), groups={},
    )  # fmt: skip
    trained = Trained(examples=nothing, backtest=None, scorer=None, refusal=reason)
    write_version(
        con, p, trained, as_of=as_of, seed=seed, status="refused", reason=reason, populations={}, model_file=None
    )


def _drift(
    con: Connection, p: Propensity, known: Sequence[Version], champion: tuple[str, str] | None
) -> Mapping[str, float]:
    """How far the people who are asked about now are from those that the model in force learnt from."""
    then = next((v for v in known if champion is not None and v.version == champion[0]), None)
    if then is None or champion is None:
        return {}
    features = [f for f in then.populations if f in p.features]
    columns = ", ".join(f"f.{quote(c)}::double as {quote(c)}" for c in features)
    try:
        table = con.execute(
            f"select {columns} from marts.{FEATURES} f join {p.relation} d using (person_id) where d.is_eligible"
        ).to_arrow_table()
        scorer = load_scorer(Path(champion[1]))
    except (duckdb.Error, BadInputError) as error:
        log.warning("the drift of %s cannot be measured: %s", p.name, error)
        return {}
    now = {f: _numbers(table[f].to_numpy()) for f in features}
    if not table.num_rows or set(scorer.features) - set(features):
        return {}
    found = {f: then.populations[f].index(now[f]) for f in features}
    score = scorer.probability(np.column_stack([now[f] for f in scorer.features]))
    reference: Population | None = then.populations.get(p.score)
    return found | ({p.score: reference.index(score)} if reference is not None else {})


def _numbers(column: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(column), column, np.nan)


def _write_drift(con: Connection, name: str, version: str, drift: Mapping[str, float], as_of: datetime) -> None:
    moment = to_warehouse(as_of)
    con.execute("delete from propensity.drift where name = $1 and as_of = $2", [name, moment])
    for column, index in drift.items():
        con.execute("insert into propensity.drift values ($1, $2, $3, $4, $5)", [name, version, moment, column, index])
