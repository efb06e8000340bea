"""The model card: everything one has to know of a version, as one page."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

from segue.propensity.declarations import Propensity
from segue.propensity.picture import plot_quality
from segue.propensity.tables import Version
from segue.scoring import WAYS
from segue.warehouse import Connection

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.25rem .8rem;text-align:left;"
    "border-bottom:1px solid #ddd}td.n{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}"
    "h1{margin-bottom:0}.note{color:#555}"
)


def card(con: Connection, propensity: Propensity, version: Version) -> str:
    """An HTML page without anything from elsewhere.

    Args:
        con: the warehouse.
        propensity: as declared now.
        version: of it.
    """
    row = con.execute(
        "select first_cutoff, last_cutoff, row_count, positive_count, code_version,"
        " declaration::json ->> 'horizon_days' from propensity.versions where name = $1 and as_of = $2",
        [version.name, version.as_of.replace(tzinfo=None)],
    ).fetchone()
    assert row is not None
    first, last, rows, positives, code, horizon = row
    in_force = con.execute(
        "select version from propensity.published where name = $1 order by published_at desc limit 1", [version.name]
    ).fetchone()
    is_in_force = in_force is not None and version.version is not None and in_force[0] == version.version
    title = f"{propensity.name} {version.version or ''}".strip()
    facts = [
        ("question", propensity.description),
        ("score", f"marts.person_scores.{propensity.score}"),
        ("status", f"{version.status}{', in force' if is_in_force else ''}: {version.reason}"),
        ("data", f"{rows:,} examples of {_day(first)} to {_day(last)}, {positives:,} of them successes"),
        ("horizon", f"{horizon} days"),
        ("as of", f"{version.as_of:%Y-%m-%d %H:%M} UTC"),
        ("made by", f"seed {version.seed}, {code}, data {version.data_hash}"),
        ("made again by", f"segue propensity reproduce {version.name} {version.version}"),
    ]
    parts = [f"<h1>{_(title)}</h1><p class=note>Model card</p>", _table(("", ""), facts)]
    if version.metrics:
        picture = base64.b64encode(plot_quality(version.metrics, title=title)).decode()
        judged = f"{version.metrics['person_count']:,} examples at {len(version.metrics['dates'])} past dates"
        parts += [
            f"<h2>Judged by {_(judged)}</h2><p>Somebody is an example at each date. Only what was known by then "
            "was learnt from: the dates are new to the model, most of the people are not.</p>",
            _table(
                ("predicted by", "AUC", "PR-AUC", "log-loss", "Brier", "calibration error"),
                [
                    (
                        words,
                        *(version.metrics[way][k] for k in ("auc", "pr_auc", "log_loss", "brier", "calibration_error")),
                    )
                    for way, words in WAYS
                ],
            ),
            f'<img alt="calibration, lift and AUC by date" src="data:image/png;base64,{picture}">',
            "<h2>Lift by tenth of the examples</h2>",
            _table(
                ("tenth", "examples", "probability said", "share it happened to", "lift"),
                [
                    (n, t["person_count"], t["mean_score"], t["rate"], t["lift"])
                    for n, t in enumerate(version.metrics["tenths"], start=1)
                ],
            ),
            "<h2>How groups of people fare</h2>"
            "<p>A mean score far from the share it happened to would mean that a group is misjudged.</p>",
            _table(
                ("column", "group", "examples", "share it happened to", "mean score", "AUC"),
                [
                    (f["column"], f["value"], f["person_count"], f["rate"], f["mean_score"], f["auc"])
                    for f in version.metrics["fairness"]
                ],
            ),
        ]
    parts += ["<h2>Features</h2><p>" + _(", ".join(propensity.features)) + "</p>"]
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>{_(title)}</title><style>{_STYLE}</style>" + (
        "".join(parts) + "</html>\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    top = "<tr>" + "".join(f"<th>{_(h)}</th>" for h in head) + "</tr>" if any(head) else ""
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if not isinstance(v, str) else ''}>{_(_figure(v))}</td>" for v in row)
        + "</tr>"
        for row in rows
    )
    return f"<table>{top}{body}</table>"


def _figure(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _day(moment: Any) -> str:
    return "?" if moment is None else f"{moment:%Y-%m-%d}"


def _(text: str) -> str:
    return html.escape(text)
