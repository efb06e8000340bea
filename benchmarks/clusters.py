"""Are the clusters that were planted found, do they keep their ids, is a new one noticed, and can they be adopted?

Four figures. The adjusted Rand index of K-Means against the simulator's archetypes, for people of the four kinds that
differ in what they do (dormant people and passers-by do hardly anything, and who has stopped coming behaves like
neither; all of them are clustered, and left out of the comparison), against plain scikit-learn on the same columns
standardised, with the true number of clusters. The share of people who keep their id on each of 30 daily runs in which
nobody changes but by chance, against plain scikit-learn matched by nearest centres. Days until an archetype that
arrives is reported as born. The lowest F1 of the adopted SQL against its cluster.

    python -m benchmarks.clusters [--quick] [--seed N]
"""

import argparse
import re
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler

from benchmarks._report import report
from benchmarks._simulated import UNTIL, shop, truth_of
from segue import clusters
from segue.clusters.features import SHIPPED
from segue.identity import stitch
from segue.models import Evaluator
from segue.models.check import empty_lake
from segue.warehouse import Connection

SEPARABLE = ("night_shoppers", "lunch_browsers", "power_users", "bargain_hunters")
COUNTS = ("event_count", "session_count_28d", "premium_use_count", "search_count", "order_count")


def kinds(count: int, *, seed: int, shares: tuple[float, ...]) -> tuple[pd.DataFrame, np.ndarray]:
    """What people of five kinds usually do: the fifth is the one that arrives."""
    random = np.random.default_rng(seed)
    kind = random.choice(len(shares), count, p=shares)
    mean = lambda *values: np.array(values)[kind]  # noqa: E731
    jitter = lambda: random.lognormal(0, 0.2, count)  # noqa: E731
    share = lambda *values: np.clip(random.normal(mean(*values), 0.06), 0.01, 0.99)  # noqa: E731
    people = pd.DataFrame(
        {
            "person_id": [f"p{n:06d}" for n in range(count)],
            "event_count": mean(80, 60, 50, 200, 90) * jitter(),
            "session_count_28d": mean(14, 20, 8, 60, 30) * jitter(),
            "average_session_seconds": mean(400, 250, 600, 500, 90) * jitter(),
            "mobile_share": share(0.95, 0.06, 0.4, 0.4, 0.9),
            "night_share": share(0.9, 0.03, 0.05, 0.15, 0.1),
            "weekend_share": share(0.28, 0.05, 0.9, 0.28, 0.3),
            "premium_use_count": mean(0.3, 0.4, 0.1, 60, 0.3) * jitter(),
            "search_count": mean(4, 6, 30, 8, 120) * jitter(),
            "order_count": mean(6, 0.5, 4, 2, 0.1) * jitter(),
            "average_basket": mean(160, 20, 18, 55, 8) * jitter(),
        }
    )
    return people, kind


def on_a_day(people: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """What they did by chance."""
    drawn = people.copy()
    for name in people.columns[1:]:
        values = people[name].to_numpy()
        if name in COUNTS:
            drawn[name] = random.poisson(values)
        elif name.endswith("_share"):
            drawn[name] = np.clip(random.normal(values, 0.03), 0, 1)
        else:
            drawn[name] = values * random.lognormal(0, 0.05, len(values))
    drawn["event_count"] += 5
    return drawn


def put(con: Connection, people: pd.DataFrame) -> None:
    """As marts.person_features."""
    con.execute("create schema if not exists marts")
    con.register("arriving", people)
    con.execute("create or replace table marts.person_features as from arriving")
    con.unregister("arriving")


def archetypes(people: int, days: int, seed: int) -> tuple[float, float, int]:
    """Adjusted Rand index of Segue and of plain scikit-learn, and how many people were compared."""
    with tempfile.TemporaryDirectory() as home:
        made = shop(Path(home), people=people, days=days, seed=seed)
        with (
            made.warehouse.read() as source,
            Evaluator(
                made.project, source, until=UNTIL, stitch=lambda c, t: stitch(c, as_of=t), targets=["person_features"]
            ) as past,
        ):
            con = past.at(UNTIL).con
            clusters.discover(con, as_of=UNTIL)
            truth = truth_of(con, made.truth)
            columns = list(SHIPPED)
            listed = ", ".join(f"coalesce({c}, 0)::double as {c}" for c in columns)
            table = con.execute(
                f"select a.cluster_id, f.person_id, {listed} from marts.person_features f"
                " join clusters.assignments a using (person_id) where a.method = 'kmeans' order by person_id"
            ).df()
    plain = KMeans(6, n_init=10, random_state=seed).fit_predict(StandardScaler().fit_transform(table[columns]))
    chosen = [
        n for n, person in enumerate(table["person_id"])
        if person in truth and truth[person][0] in SEPARABLE and not truth[person][1]
    ]  # fmt: skip
    real = [truth[table["person_id"][n]][0] for n in chosen]
    return (
        float(adjusted_rand_score(real, table["cluster_id"].to_numpy()[chosen])),
        float(adjusted_rand_score(real, plain[chosen])),
        len(chosen),
    )


def stable_ids(count: int, days: int, seed: int) -> tuple[float, float]:
    """Smallest share of people with the id of the first day, on any day: Segue, and plain refits matched by centres."""
    random = np.random.default_rng(seed)
    people, _ = kinds(count, seed=seed, shares=(0.25, 0.35, 0.2, 0.2, 0.0))
    con = empty_lake()
    first: dict[str, int] = {}
    first_plain, centres = np.empty(0), np.empty((0, 0))
    kept, kept_plain = [], []
    for day in range(days):
        today = on_a_day(people, random)
        put(con, today)
        clusters.discover(con, as_of=UNTIL + timedelta(days=day), seed=seed)
        now = dict(
            con.execute("select person_id, cluster_id from clusters.assignments where method = 'kmeans'").fetchall()
        )
        matrix = StandardScaler().fit_transform(today.iloc[:, 1:])
        model = KMeans(4, n_init=1, random_state=seed + day).fit(matrix)
        if day == 0:
            first, first_plain, centres = now, model.labels_, model.cluster_centers_
            continue
        rows, columns = linear_sum_assignment(cdist(model.cluster_centers_, centres))
        matched = np.empty(4, dtype=int)
        matched[rows] = columns
        kept.append(np.mean([first[p] == c for p, c in now.items()]))
        kept_plain.append(float((matched[model.labels_] == first_plain).mean()))
    con.close()
    return float(min(kept)), float(min(kept_plain))


def days_until_born(count: int, seed: int) -> float:
    """Days from the first person of a new kind until it is reported as born; a fiftieth of people arrives each day."""
    random = np.random.default_rng(seed)
    old, _ = kinds(count, seed=seed, shares=(0.25, 0.35, 0.2, 0.2, 0.0))
    new, _ = kinds(count // 4, seed=seed + 1, shares=(0.0, 0.0, 0.0, 0.0, 1.0))
    new["person_id"] = "n" + new["person_id"]
    con = empty_lake()
    for day in range(15):
        here = pd.concat([old, new.head(day * count // 50)])
        put(con, on_a_day(here, random))
        found = clusters.discover(con, as_of=UNTIL + timedelta(days=day), seed=seed).method("kmeans")
        born = [e for e in found.events if e.event == "born"]
        if day and born:
            con.close()
            return float(day)
    con.close()
    return float("inf")


def adopted_f1(count: int, seed: int) -> float:
    """The lowest F1 of adopted SQL, run on everybody."""
    people, _ = kinds(count, seed=seed, shares=(0.2, 0.3, 0.2, 0.15, 0.15))
    con = empty_lake()
    put(con, on_a_day(people, np.random.default_rng(seed)))
    clusters.discover(con, as_of=UNTIL, seed=seed)
    found = []
    for (name,) in con.execute("select cluster_name from clusters.profiles where method = 'kmeans'").fetchall():
        adoption = clusters.adopt(con, name, segment=None, features=(), priority=1, min_events=5)
        sql = re.sub(r"\{\{.*?\}\}", "marts.person_features", adoption.sql)
        ((meant, both),) = con.execute(
            f"select count(*), count(a.person_id) from ({sql}) s left join clusters.assignments a"
            " on a.person_id = s.person_id and a.method = 'kmeans' and a.cluster_name = $1",
            [name],
        ).fetchall()
        found.append(2 * both / (meant + adoption.member_count))
    con.close()
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    people, days = (250, 35) if options.quick else (1500, 60)
    count, runs = (400, 10) if options.quick else (2000, 30)
    rand, plain, compared = archetypes(people, days, options.seed)
    ids, ids_plain = stable_ids(count, runs, options.seed)
    born = days_until_born(count, options.seed)
    f1 = adopted_f1(count, options.seed)
    print(f"archetypes: adjusted Rand {rand:.3f}, plain scikit-learn {plain:.3f}, {compared} people")
    print(f"ids kept over {runs} days: {ids:.4f}, plain refits {ids_plain:.4f}")
    print(f"a new kind is reported after {born:.0f} days; adopted SQL has an F1 of at least {f1:.3f}")
    report(
        "clusters",
        figure=rand,
        unit="adjusted Rand index",
        against=f"plain scikit-learn {plain:.3f}",
        goal="Rand >= 0.8, ids kept >= 0.95, new kind within 7 days, F1 >= 0.85",
        holds=rand >= 0.8 and ids >= 0.95 and born <= 7 and f1 >= 0.85,
        ids_kept=round(ids, 4),
        ids_kept_plain=round(ids_plain, 4),
        days_until_born=born,
        adopted_f1=round(f1, 4),
        compared_people=compared,
    )


if __name__ == "__main__":
    main()
