"""Who may be one person by habit, with Splink: edges kept apart, which join nobody.

A browser is compared with others by what it is like (model, time zone, locale, coarse networks, place, typical hour).
The weights are learnt without labels (expectation maximisation, Fellegi and Sunter 1969 as in Splink); the
deterministic people are labels for evaluation only: each browser of somebody with an account is linked as if nobody
knew it, and its best link is right or wrong. On these precision is measured for every threshold, half of the people
choosing the threshold and the other half judging it.
"""

import io
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from segue.clock import to_warehouse
from segue.identity.tables import ensure_tables
from segue.variables import read_variables, wrong_variable
from segue.warehouse import Connection, has_table

#: Signals that are compared, where the table has them.
SIGNALS = ("model", "timezone", "locale", "networks", "place", "hour")

#: Too few labelled browsers say nothing about precision.
_FEWEST_LABELS = 50

#: A network of more browsers than this is a crowd.
_CROWD = 150

_SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbableReport:
    """What was learnt, and how good it is."""

    browser_count: int
    pair_count: int  # compared
    link_count: int  # above the threshold
    threshold: float  # match probability
    precision: float | None  # estimated on accounts that did not choose the threshold; None: too few labels
    recall: float | None  # of these accounts' browsers that have another one to be linked with
    wanted_precision: float
    curve: tuple[tuple[float, float, float], ...]  # threshold, precision, recall
    weights: tuple[tuple[str, str, float], ...]  # signal, agreement, match weight (log2 of the Bayes factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probable:
    """Scored links between browsers that may be one person."""

    links: pa.Table  # left_value, right_value, score; above the threshold, the best of each unknown browser
    report: ProbableReport


def signals(con: Connection, project: Path) -> pa.Table:
    """What browsers are like: the query `analyses/browser_signals.sql` of the project, on a connection with a clock.

    Raises:
        DefinitionError: when the variable `analytics_categories` of the project is no list.
    """
    said = read_variables(project).get("analytics_categories", [])
    if not isinstance(said, str | list):
        raise wrong_variable("analytics_categories", said, "a list of categories of consent")
    categories = [str(name).lower() for name in ([said] if isinstance(said, str) else said)]
    con.execute("set variable analytics_categories = $1::varchar[]", [categories])
    return con.execute((project / "analyses" / "browser_signals.sql").read_text()).to_arrow_table()


def learn(browsers: pa.Table, people: pa.Table, *, wanted_precision: float = 0.95) -> Probable:
    """Score pairs of browsers and choose the threshold.

    Args:
        browsers: anonymous_id and signals (SIGNALS; missing ones are left out).
        people: anonymous_id, person_id, has_account, as found deterministically.
        wanted_precision: the lowest threshold whose precision on labels reaches this is taken.
    """
    names = [name for name in SIGNALS if name in browsers.column_names]
    table = _without_crowded_networks(browsers.select(["anonymous_id", *names]), people)
    if table.num_rows < 2 or not {"networks", "model"} <= set(names):
        return _nothing(table.num_rows, wanted_precision)
    scored, weights = _score(table, names)
    who = dict(zip(table["anonymous_id"].to_pylist(), table["person_id"].to_pylist(), strict=True))
    has_account = dict(zip(table["anonymous_id"].to_pylist(), table["has_account"].to_pylist(), strict=True))
    choosing, judging = _labelled(scored, who, has_account)
    findable = _findable(who, has_account)
    curve = _curve(choosing, findable[0])
    threshold = next((t for t, precision, _ in curve if precision >= wanted_precision), 1.0)
    if len(choosing) + len(judging) < _FEWEST_LABELS:
        threshold, precision, recall = 1.0, None, None
    else:
        precision, recall = _measure(judging, threshold, findable[1])
    links = _best(scored, who, has_account, threshold)
    report = ProbableReport(
        browser_count=table.num_rows,
        pair_count=len(scored),
        link_count=links.num_rows,
        threshold=threshold,
        precision=precision,
        recall=recall,
        wanted_precision=wanted_precision,
        curve=tuple(curve),
        weights=weights,
    )
    return Probable(links=links, report=report)


def _without_crowded_networks(browsers: pa.Table, people: pa.Table) -> pa.Table:
    """Browsers of known people, with the networks that few of them share."""
    import duckdb

    with duckdb.connect(":memory:") as con:
        con.register("browsers", browsers)
        con.register("people", people)
        if "networks" not in browsers.column_names:
            return con.execute("from browsers join people using (anonymous_id) order by anonymous_id").to_arrow_table()
        return con.execute(
            """
            with each_network as (select distinct anonymous_id, unnest(networks) as network from browsers),
            few as (select network from each_network group by network having count(*) between 2 and $1),
            kept as (
                select anonymous_id, list(network order by network) as networks
                from each_network semi join few using (network) group by anonymous_id
            )
            select b.* replace (k.networks as networks), p.person_id, p.has_account
            from browsers b join people p using (anonymous_id) left join kept k using (anonymous_id)
            order by anonymous_id
            """,
            [_CROWD],
        ).to_arrow_table()


Scored = list[tuple[str, str, float]]
_Labelled = list[tuple[float, bool]]


def _score(table: pa.Table, names: Sequence[str]) -> tuple[Scored, tuple[tuple[str, str, float], ...]]:
    import splink.comparison_library as cl
    from splink import DuckDBAPI, Linker, SettingsCreator, block_on

    logging.getLogger("splink").setLevel(logging.ERROR)
    comparisons: list[Any] = [
        cl.ExactMatch(name).configure(term_frequency_adjustments=name in ("model", "locale"))
        for name in ("model", "timezone", "locale", "place")
        if name in names
    ]
    comparisons.append(cl.ArrayIntersectAtSizes("networks", [3, 2, 1]))
    if "hour" in names:
        comparisons.append(_hours(cl))
    # A network that very many browsers have come from, such as a telephone company's, tells nothing: `learn` leaves
    # it out. Browsers that share one of the others, or look alike, are compared.
    alike = [name for name in ("model", "timezone", "locale") if name in names]
    rules: list[Any] = [block_on("networks", arrays_to_explode=["networks"]), block_on(*alike)]
    settings = SettingsCreator(
        link_type="dedupe_only",
        unique_id_column_name="anonymous_id",
        comparisons=comparisons,
        blocking_rules_to_generate_predictions=rules,
        retain_matching_columns=False,
        retain_intermediate_calculation_columns=False,
    )
    import duckdb

    con = duckdb.connect(":memory:")
    api = DuckDBAPI(con)
    frame = api.register(table.select(["anonymous_id", *names]), dataset_display_name="browsers")
    linker = Linker(frame, settings)
    # Nobody knows beforehand how many browsers a person has; two is a start, which EM mends.
    linker.training.estimate_u_using_random_sampling(max_pairs=2e6, seed=_SEED)
    # Each leaves free what the other fixes, so that every weight is learnt once at least.
    for rule in (block_on("networks[1]"), block_on(*alike)):
        linker.training.estimate_parameters_using_expectation_maximisation(
            rule, record_sample_proportion=1.0, populate_probability_two_random_records_match_from_trained_values=True
        )
    found = linker.inference.predict(threshold_match_probability=0.01).as_duckdbpyrelation()
    rows = found.project("anonymous_id_l, anonymous_id_r, match_probability").fetchall()
    weights = tuple(
        (
            comparison["output_column_name"],
            level["label_for_charts"],
            round(math.log2(level["m_probability"] / level["u_probability"]), 2),
        )
        for comparison in linker.misc.save_model_to_json()["comparisons"]
        for level in comparison["comparison_levels"]
        if level.get("m_probability") and level.get("u_probability")
    )
    con.close()
    return [(a, b, float(p)) for a, b, p in rows], weights


def _hours(cl: Any) -> Any:
    """Two typical hours on the clock's face: at most 1, at most 3 apart, else."""
    apart = 'least(abs("hour_l" - "hour_r"), 24 - abs("hour_l" - "hour_r"))'
    return cl.CustomComparison(
        output_column_name="hour",
        comparison_levels=[
            {
                "sql_condition": '"hour_l" is null or "hour_r" is null',
                "label_for_charts": "unknown",
                "is_null_level": True,
            },
            {"sql_condition": f"{apart} <= 1", "label_for_charts": "within 1 hour"},
            {"sql_condition": f"{apart} <= 3", "label_for_charts": "within 3 hours"},
            {"sql_condition": "else", "label_for_charts": "further apart"},
        ],
    )


def _labelled(scored: Scored, who: dict[str, str], has_account: dict[str, bool]) -> tuple[_Labelled, _Labelled]:
    """What `_best` would say of each browser of people with accounts, were it unknown: the score of its best link, and
    whether that is right. By person in two halves, so that one can judge what the other has chosen."""
    best: dict[str, tuple[float, bool]] = {}
    for a, b, score in scored:
        if has_account[a] and has_account[b]:
            found = (score, who[a] == who[b])
            for browser in (a, b):
                # Of two that are as good, the wrong one: it could have been taken.
                if browser not in best or (score, not found[1]) > (best[browser][0], not best[browser][1]):
                    best[browser] = found
    halves: tuple[_Labelled, _Labelled] = ([], [])
    for browser, found in sorted(best.items()):
        halves[_half(who[browser])].append(found)
    return halves


def _half(person: str) -> int:
    return int(person[-1], 16) % 2


def _findable(who: dict[str, str], has_account: dict[str, bool]) -> tuple[int, int]:
    """In each half, browsers of people with accounts that have another browser of the same person to be linked with.

    Those that nothing was scored for are among them, and those whose best link is wrong: they were not found.
    """
    totals = [0, 0]
    for person, count in Counter(person for browser, person in who.items() if has_account[browser]).items():
        totals[_half(person)] += count if count > 1 else 0
    return totals[0], totals[1]


def _curve(labelled: _Labelled, findable: int) -> list[tuple[float, float, float]]:
    """Threshold, precision, recall, ascending; some two hundred points at most."""
    labelled = sorted(labelled, reverse=True)
    step = 0.005 * sum(same for _, same in labelled)
    points: list[tuple[float, float, float]] = []
    right, told = 0, 0
    for count, (score, same) in enumerate(labelled, start=1):
        right += same
        is_last = count == len(labelled) or labelled[count][0] < score
        if is_last and step and (not points or right - told >= step or count == len(labelled)):
            points.append((score, right / count, right / findable))
            told = right
    return points[::-1]


def _measure(labelled: _Labelled, threshold: float, findable: int) -> tuple[float | None, float | None]:
    above = [same for score, same in labelled if score >= threshold]
    return (sum(above) / len(above) if above else None), (sum(above) / findable if findable else None)


def _best(scored: Scored, who: dict[str, str], has_account: dict[str, bool], threshold: float) -> pa.Table:
    """Of each person without an account, the best link to somebody else; two accounts are never linked."""
    best: dict[str, tuple[float, str, str, str]] = {}
    for a, b, score in scored:
        if score < threshold or who[a] == who[b] or (has_account[a] and has_account[b]):
            continue
        for mine, other in ((a, b), (b, a)):
            if not has_account[mine]:
                # An account first: it tells more about somebody than another unknown browser does.
                candidate = (score + has_account[other], other, mine, other)
                if who[mine] not in best or candidate > best[who[mine]]:
                    best[who[mine]] = candidate
    scores = {(a, b): score for a, b, score in scored}
    pairs = sorted({tuple(sorted(c[2:])) for c in best.values()})
    return pa.table(
        {
            "left_value": pa.array([a for a, _ in pairs], pa.string()),
            "right_value": pa.array([b for _, b in pairs], pa.string()),
            "score": pa.array([scores.get((a, b), scores.get((b, a))) for a, b in pairs], pa.float64()),
        }
    )


def _nothing(count: int, wanted: float) -> Probable:
    empty = pa.table(
        {
            "left_value": pa.array([], pa.string()),
            "right_value": pa.array([], pa.string()),
            "score": pa.array([], pa.float64()),
        }
    )
    report = ProbableReport(
        browser_count=count, pair_count=0, link_count=0, threshold=1.0, precision=None, recall=None,
        wanted_precision=wanted, curve=(), weights=(),
    )  # fmt: skip
    return Probable(links=empty, report=report)


def weights_chart(report: ProbableReport) -> bytes:
    """What each agreement and disagreement is worth, as a PNG: bars in powers of two."""
    from matplotlib.figure import Figure

    rows = [(f"{signal}: {level}", weight) for signal, level, weight in report.weights][::-1]
    figure = Figure(figsize=(8, 0.35 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    shown = [max(-12.0, min(12.0, weight)) for _, weight in rows]
    axes.barh([name for name, _ in rows], shown, color=["#2a7f62" if w > 0 else "#b5523b" for w in shown])
    axes.axvline(0, color="#333333", linewidth=0.8)
    axes.set_xlabel("match weight: each 1 doubles the odds that two browsers are one person's (cut at ±12)")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def curve_chart(report: ProbableReport) -> bytes:
    """Precision against recall on labelled browsers, with the threshold chosen, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([r for *_, r in report.curve], [p for _, p, _ in report.curve], color="#2a5d8f")
    axes.axhline(
        report.wanted_precision, color="#888888", linestyle=":", label=f"wanted: {report.wanted_precision:.0%}"
    )
    if report.precision is not None and report.recall is not None:
        told = f"threshold {report.threshold:.4f}: {report.precision:.1%} on people who did not choose it"
        axes.plot([report.recall], [report.precision], "o", color="#b5523b", label=told)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def write_probable(con: Connection, found: Probable, *, as_of: datetime) -> int:
    """Replace `identity.probable_links`; how many. To be called inside a transaction."""
    ensure_tables(con)
    con.register("probable_now", found.links)
    con.execute("delete from identity.probable_links")
    con.execute(
        """
        insert into identity.probable_links by name
        select 'anonymous_id' as left_type, n.left_value, 'anonymous_id' as right_type, n.right_value,
            l.person_id as left_person_id, r.person_id as right_person_id,
            'probabilistic' as kind, n.score, $1::double as precision, $2::timestamp as as_of
        from probable_now n
        join identity.identifiers l on l.identifier_type = 'anonymous_id' and l.identifier_value = n.left_value
        join identity.identifiers r on r.identifier_type = 'anonymous_id' and r.identifier_value = n.right_value
        """,
        [found.report.precision, to_warehouse(as_of)],
    )
    con.unregister("probable_now")
    return int(found.links.num_rows)


def known_browsers(con: Connection) -> pa.Table:
    """anonymous_id, person_id, has_account, as `learn` takes them."""
    if not has_table(con, "identity", "identifiers"):
        return pa.table(
            {
                "anonymous_id": pa.array([], pa.string()),
                "person_id": pa.array([], pa.string()),
                "has_account": pa.array([], pa.bool_()),
            }
        )
    return con.execute(
        """
        with accounts as (select distinct person_id from identity.identifiers where identifier_type = 'user_id')
        select i.identifier_value as anonymous_id, i.person_id, a.person_id is not null as has_account
        from identity.identifiers i left join accounts a using (person_id)
        where i.identifier_type = 'anonymous_id'
        """
    ).to_arrow_table()
