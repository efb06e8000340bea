"""The whole graph on a made-up history, held against the truth that the history was made from."""

import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from tests.end_to_end.installation import Installation

PEOPLE, DAYS = 200, 63
UNTIL = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    home = tmp_path_factory.mktemp("shop")
    found = Installation(home=home, history_start=(UNTIL - timedelta(days=DAYS)).date().isoformat())
    found.said("simulate", "--people", str(PEOPLE), "--days", str(DAYS), "--seed", "3", "--out", str(home / "made"),
               "--until", UNTIL.date().isoformat())  # fmt: skip
    (home / "made" / "events").rename(home / "landing")
    found.said("refresh", "--as-of", UNTIL.isoformat())
    return found


def truth(shop: Installation, query: str) -> list[tuple[object, ...]]:
    """Rows of the truth files; `people` and so on stand for them."""
    with duckdb.connect() as con:
        for file in (shop.home / "made" / "truth").glob("*.parquet"):
            con.execute(f"create view {file.stem} as from '{file}'")
        return con.execute(query).fetchall()


def test_every_message_is_loaded_once_or_kept_with_its_reason(shop: Installation) -> None:
    wanted = dict(truth(shop, "select reason, count(*) from messages where kind = 'contract_breaking' group by reason"))
    kept = {row["reason"]: row["n"] for row in shop.rows("select reason, count(*) as n from raw.quarantine group by 1")}
    assert kept == wanted
    (books,) = shop.rows(
        "select sum(read_count) as read, sum(loaded_count) as loaded, sum(duplicate_count) as duplicates, "
        "(select count(*) from raw.events) as stored, (select count(distinct message_id) from raw.events) as ids "
        "from raw.loads"
    )
    (duplicates,) = truth(shop, "select count(*) from messages where kind = 'duplicate'")[0]
    assert books["duplicates"] == duplicates
    assert books["loaded"] == books["stored"] == books["ids"] == books["read"] - duplicates - sum(kept.values())


def test_the_truth_never_reaches_the_warehouse(shop: Installation) -> None:
    assert shop.rows("select 1 as n from raw.events where properties::varchar like '%archetype%'") == []


def test_people_are_who_they_are(shop: Installation) -> None:
    found = {
        (row["identifier_type"], row["identifier_value"]): row["person_id"]
        for row in shop.rows("select identifier_type, identifier_value, person_id from identity.identifiers")
    }
    real = {
        (kind, value): person
        for kind, value, person in truth(
            # An address is kept as a hash whose key the truth does not have.
            shop,
            "select identifier_type, identifier_value, person from identifiers "
            "where not is_shared and identifier_type <> 'email'",
        )
    }
    known = found.keys() & real.keys()
    assert len(known) > 0.95 * len(real)

    def pairs(groups: Counter[object]) -> int:
        return sum(n * (n - 1) // 2 for n in groups.values())

    both = pairs(Counter((found[key], real[key]) for key in known))
    assert both / pairs(Counter(found[key] for key in known)) >= 0.99  # precision
    assert both / pairs(Counter(real[key] for key in known)) >= 0.8  # recall: some cookies are never linked


def test_the_outage_is_found_and_announced_once(shop: Installation) -> None:
    ((day,),) = truth(shop, "select date from disturbed_days where kind = 'outage'")
    assert isinstance(day, date)
    found = shop.rows(
        "select anomaly_id, kpi, slice, severity from watch.anomalies "
        f"where direction = 'down' and date '{day}' between started_at::date and coalesce(ended_at, started_at)::date"
    )
    assert ("sessions", "all") in {(row["kpi"], row["slice"]) for row in found}
    announced = Counter(
        row["subject_id"]
        for row in shop.rows("select subject_id from alerts.announcements where kind in ('anomaly', 'data_fault')")
    )
    assert set(announced.values()) == {1}
    assert {row["anomaly_id"] for row in found if row["severity"] == "high"} <= set(announced)
    # One message for all that is past: first the source that sent so little, then what it sent less of.
    told = shop.rows(
        "select distinct payload->>'$.title' as title, payload->>'$.items[0].sentence' as first "
        "from alerts.announcements "
        f"where subject_id in ({', '.join(repr(row['anomaly_id']) for row in found if row['severity'] == 'high')})"
    )
    assert len(told) == 1
    assert re.fullmatch(r"\d+ faults of the data; \d+ KPI series moved with them", told[0]["title"])
    assert re.match(rf"Source landing sent \d+ messages on {day},", told[0]["first"])
    assert list((shop.home / "alerts").rglob("*.html"))


def test_quiet_days_stay_quiet(shop: Installation) -> None:
    disturbed = {day for (day,) in truth(shop, "select date from disturbed_days")}
    near = {day + timedelta(days=offset) for day in disturbed if isinstance(day, date) for offset in (-1, 0, 1, 2)}
    loud = [
        row
        for row in shop.rows("select kpi, started_at::date as day from watch.anomalies where slice = 'all'")
        if date.fromisoformat(row["day"]) not in near
    ]
    (series,) = shop.rows("select count(*) as n from watch.series where status = 'judged' and slice = 'all'")
    # 28 days of each series are judged: at most 1 false alarm in 100 days of a series.
    assert len(loud) <= max(1, series["n"] * 28 / 100)


def test_segments_hold_those_whom_their_rule_names(shop: Installation) -> None:
    counted = {
        row["person_id"]: row["n"]
        for row in shop.rows(
            f"select person_id, count(*) as n from marts.sessions "
            f"where started_at > timestamp '{UNTIL:%Y-%m-%d}' - interval 7 day group by person_id"
        )
    }
    members = {row["person_id"] for row in shop.rows("select person_id from segments.power_users")}
    assert members == {person for person, n in counted.items() if n > 5}
    assert members
    listed = shop.said("segments", "members", "power_users", "--format", "csv", "--limit", "100000").splitlines()[1:]
    assert len(listed) == len(members)


def test_every_shipped_segment_has_members_and_nobody_is_in_two_of_a_group(shop: Installation) -> None:
    shipped = {path.stem for path in (Path(__file__).parents[2] / "dbt_project/models/segments").glob("*.sql")}
    current = shop.rows("select person_id, segment from segments.memberships where exited_at is null")
    bands = {f"churn_risk_{band}" for band in ("low", "medium", "high")}  # empty unless a model is worth its use
    assert {row["segment"] for row in current} | bands == shipped
    for group in ({"active_last_24h", "active_24_to_72h", "inactive_72h"},
                  {"weekly_sessions_low", "weekly_sessions_medium", "weekly_sessions_high"}):  # fmt: skip
        assert max(Counter(row["person_id"] for row in current if row["segment"] in group).values()) == 1


def test_clusters_have_names_and_profiles_a_person_can_read(shop: Installation) -> None:
    clusters = shop.rows("select cluster_name, profile, person_count from clusters.profiles where method = 'kmeans'")
    assert len(clusters) >= 2
    assert len({row["cluster_name"] for row in clusters}) == len(clusters)
    assert all(row["profile"].endswith(".") and row["person_count"] > 0 for row in clusters)
