"""People of a few known kinds, as `marts.person_features` would show them."""

import numpy as np
import pandas as pd

from segue.warehouse import Connection


def planted(sizes: tuple[int, ...] = (90, 70, 50, 40), *, seed: int = 1) -> tuple[pd.DataFrame, np.ndarray]:
    """Night shoppers on mobile, lunch browsers on the web, bargain hunters at weekends, people with premium."""
    random = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    mean = lambda *values: np.array(values)[kinds]  # noqa: E731
    count = len(kinds)
    share = lambda *values: np.clip(random.normal(mean(*values), 0.06), 0, 1)  # noqa: E731
    orders = random.poisson(mean(6, 0.3, 4, 2))
    basket = random.lognormal(np.log(mean(160, 20, 18, 55)), 0.3)
    people = pd.DataFrame(
        {
            "person_id": [f"p_{n:05d}" for n in random.permutation(count)],
            "event_count": random.poisson(mean(80, 60, 50, 200)) + 10,
            "session_count_28d": random.poisson(mean(14, 20, 8, 60)),
            "average_session_seconds": random.lognormal(np.log(mean(400, 250, 600, 500)), 0.25),
            "hours_since_last_seen": random.exponential(mean(40, 24, 90, 8)),
            "mobile_share": share(0.95, 0.06, 0.4, 0.4),
            "night_share": share(0.9, 0.03, 0.05, 0.15),
            "weekend_share": share(0.28, 0.05, 0.9, 0.28),
            "premium_use_count": random.poisson(mean(0.2, 0.3, 0.05, 60)),
            "search_count": random.poisson(mean(4, 6, 30, 8)),
            "order_count": orders,
            "average_basket": np.where(orders > 0, basket, np.nan),
        }
    )
    order = np.argsort(people["person_id"].to_numpy())
    return people.iloc[order].reset_index(drop=True), kinds[order]


def put(con: Connection, people: pd.DataFrame) -> None:
    """Make `marts.person_features` of it; NaN is null."""
    con.execute("create schema if not exists marts")
    con.register("arriving", people)
    columns = ", ".join(f'case when isnan("{c}"::double) then null else "{c}" end as "{c}"' for c in people.columns[1:])
    con.execute(f"create or replace table marts.person_features as select person_id, {columns} from arriving")
    con.unregister("arriving")
