"""Clusters over four days, and three propensities: one with a model in force, one without, one withdrawn."""

import json
from datetime import datetime

from segue.models.tables import TABLES, create_empty
from segue.warehouse import Connection

HOSTILE_NAME = "<script>alert(2)</script>"
_SCORES = {"person_id": "varchar", "churn_risk": "double", "premium_probability": "double"}


def quality(auc: float) -> dict[str, float]:
    return {"auc": auc, "pr_auc": auc - 0.1, "log_loss": 0.4, "brier": 0.12, "calibration_error": 0.013}


METRICS = {
    "model": quality(0.842), "logistic": quality(0.81), "recency": quality(0.731), "last_rate": quality(0.5),
    "dates": ["2026-02-01", "2026-02-08"], "person_count": 1234, "by_date": [[0.84, 0.73], [0.85, 0.74]],
    "tenths": [{"person_count": 123, "mean_score": 0.9 - n / 10, "rate": 0.88 - n / 10, "lift": 2 - n / 5}
               for n in range(8)],
    "fairness": [],
}  # fmt: skip


def fill_discovered(con: Connection) -> None:
    """Inside a transaction, with `kpis.daily`."""
    for relation, columns in TABLES.items():
        if relation.startswith(("clusters.", "propensity.")):
            create_empty(con, relation, columns)
    _fill_clusters(con)
    _fill_propensity(con)


def _fill_clusters(con: Connection) -> None:
    days = [datetime(2026, 2, day) for day in (22, 24, 26, 28)]
    differences = json.dumps(
        [
            {"column": "average_basket", "is_missing": False, "difference": 2.1, "value": 90.0, "usual": 30.0},
            {"column": "night_share", "is_missing": False, "difference": -1.3, "value": 0.1, "usual": 0.4},
            {"column": "days_since_order", "is_missing": True, "difference": 0.5, "value": 0.5, "usual": 0.2},
        ]
    )
    people = [(0, "Large baskets, at night", 120), (3, HOSTILE_NAME, 80)]
    for method in ("kmeans", "hdbscan"):
        for n, day in enumerate(days):
            con.execute(
                "insert into clusters.runs values ($1, $2, '{}', 'stable under resampling (0.93)', 0.41, 200, 7)",
                [method, day],
            )
            con.execute(
                "insert into clusters.decisions values ($1, $2, $3, null, 0.02, 'order_count', 0.01)",
                [method, day, "assigned to the clusters that are there" if n else "published: there are none yet"],
            )
            for number, name, count in people:
                con.execute(
                    "insert into clusters.sizes values ($1, $2, $3, $4, $5)", [method, day, number, name, count + 5 * n]
                )
        for number, name, count in people:
            con.execute(
                "insert into clusters.profiles values ($1, $2, $3, '3.0× the usual basket.', $4, $4 / 200, $5, $6)",
                [method, number, name, count, differences, days[-1]],
            )
            con.execute(
                "insert into clusters.map select $1, $2, $3, x + 5 * $3::int, y, 1 + x * y from range(5) a(x),"
                " range(6) b(y)",
                [method, days[-1], number],
            )
        for event, day, text in (
            ("born", days[0], "“Large baskets, at night” is new: 120 people."),
            ("split", days[2], f"“{HOSTILE_NAME}” fell apart."),
        ):
            con.execute(
                "insert into clusters.events values ($1, $2, $3, 0, 'x', '[]', 120, $4)", [method, day, event, text]
            )


def _fill_propensity(con: Connection) -> None:
    for name, score, version, as_of, status, reason, metrics in (
        ("churn", "churn_risk", "v1", "2026-02-21", "published", "AUC 0.842, +0.111 against recency alone", METRICS),
        ("churn", "churn_risk", "v2", "2026-02-28", "challenger", "the champion stays: log-loss", METRICS),
        ("premium_conversion", "premium_probability", None, "2026-02-28", "refused",
         "too little to learn from: 12 examples of people it happened to", None),
        ("next_purchase", "purchase_probability", "v9", "2026-02-21", "published", "AUC 0.7", METRICS),
    ):  # fmt: skip
        said = {"fingerprint": "f", "description": f"Who will {name}.", "score": score, "horizon_days": 14}
        con.execute(
            "insert into propensity.versions (name, version, as_of, status, reason, seed, declaration, metrics)"
            " values ($1, $2, $3, $4, $5, 0, $6, $7)",
            [name, version, as_of, status, reason, json.dumps(said), json.dumps(metrics) if metrics else None],
        )
    for row in (
        ("churn", "v1", "1.npz", "2026-02-21", "AUC 0.842, +0.111 against recency alone"),
        ("next_purchase", "v9", "9.npz", "2026-02-21", "AUC 0.7"),
        ("next_purchase", None, None, "2026-02-25", "a sale made it wrong"),
    ):
        con.execute("insert into propensity.published values ($1, $2, $3, $4, $5)", list(row))
    con.execute("insert into propensity.drift values ('churn', 'v1', '2026-02-28', 'order_count', 0.31)")
    con.execute(
        "insert into propensity.next_changes values ('all', 'low', 'high', 14, 200, 90, 0.45, '2026-02-28'),"
        " ('2026-02', 'low', 'high', 14, 50, 20, 0.4, '2026-02-28')"
    )
    create_empty(con, "marts.person_scores", _SCORES)
    con.execute(
        "insert into marts.person_scores select 'p' || n, case when n < 90 then n / 90 end, null from range(100) r(n)"
    )
    con.execute(
        "insert into kpis.daily select 'segment_size', 'segment=churn_risk_' || band, date '2025-11-01' + d::int,"
        " size + d % 5, size, 100, true from range(120) r(d), (values ('low', 60), ('medium', 20), ('high', 10))"
        " v(band, size)"
    )
