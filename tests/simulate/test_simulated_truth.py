"""The truth: it agrees with the files to the last message, and stays beside them."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from segue.events import ingest
from segue.events.simulator import SimulationReport
from segue.warehouse import Warehouse

History = Any  # of conftest.py


def test_the_truth_is_beside_the_events_never_among_them(history: History) -> None:
    root = history.report.events.parent
    assert sorted(path.name for path in root.iterdir()) == ["events", "truth"]
    assert {path.name[10:] for path in history.report.events.iterdir()} == {".ndjson.gz"}
    words = ("person-0", "night_shoppers", "lunch_browsers", "bargain_hunters", "household-")
    told = " or ".join(f"contains(text, '{word}')" for word in words)
    assert history.one(f"select count(*) from lines where {told}") == 0


def test_counts_are_exactly_what_is_in_the_files(history: History) -> None:
    report = history.report
    assert history.one("select count(*) from lines") == report.lines
    assert history.one("select count(*) from messages") == report.accepted
    assert report.lines == report.accepted + report.duplicates + report.broken_count
    kinds = dict(history.rows("select kind, count(*) from true_messages group by all"))
    assert kinds == {
        "duplicate": report.duplicates,
        "late": report.late,
        "wrong_clock": report.wrong_clock,
        "contract_breaking": report.broken_count,
    }
    broken = "select reason, count(*) from true_messages where kind = 'contract_breaking' group by all"
    assert dict(history.rows(broken)) == report.broken
    summary = orjson.loads((report.truth / "summary.json").read_bytes())
    assert (summary["lines"], summary["accepted"], summary["broken"]) == (report.lines, report.accepted, report.broken)
    assert report.sign_ups == history.one("select count(signed_up_at) from true_people")


def test_message_ids_are_unique_but_for_planted_duplicates(history: History) -> None:
    again = history.rows(
        """
        select messageId, count(*) - 1 from lines where is_json group by all having count(*) > 1 order by all
        """
    )
    planted = history.rows(
        "select message_id, count(*) from true_messages where kind = 'duplicate' group by all order by all"
    )
    assert again == planted
    assert len(planted) > 50


def test_duplicates_come_as_the_same_bytes_and_anew_in_a_later_file(history: History) -> None:
    copies = history.rows(
        """
        select copy.text = first.text, copy.file > first.file,
            copy.properties is not distinct from first.properties and copy.type = first.type
            and copy.originalTimestamp = first.originalTimestamp and copy.timestamp = first.timestamp
            and copy.receivedAt >= first.receivedAt
        from true_messages as truth
        inner join lines as copy using (file, line)
        inner join messages as first on first.messageId = truth.message_id
        where kind = 'duplicate'
        """
    )
    assert len(copies) == history.report.duplicates
    assert all(same for _, _, same in copies)
    kinds = {(is_same, is_later) for is_same, is_later, _ in copies}
    assert {(True, False), (False, True)} <= kinds
    assert (True, True) not in kinds


def test_every_note_points_at_its_line(history: History) -> None:
    wrong = """
        select count(*) from true_messages as truth left join lines using (file, line)
        where not coalesce(contains(text, message_id), false)
    """
    assert history.one(wrong) == 0
    broken = """
        select reason, bool_and(is_json) from true_messages inner join lines using (file, line)
        where kind = 'contract_breaking' group by all
    """
    assert {reason for reason, is_json in history.rows(broken) if not is_json} == {"broken_json"}
    assert history.one("select count(*) from lines where not is_json") == history.report.broken["broken_json"]


def test_about_three_in_a_thousand_break_something_each_in_its_way(history: History) -> None:
    report = history.report
    assert report.broken.keys() == {
        "missing_property", "wrong_type", "value_not_allowed", "unknown_type", "missing_ids", "broken_json",
    }  # fmt: skip
    assert 0.002 < report.broken_count / report.lines < 0.005


def assert_identifiers_are_those_of_accepted_messages(history: History) -> None:
    sent = history.rows(
        """
        select distinct * from (
            select 'user_id' as kind, userId as value from messages
            union all select 'anonymous_id', anonymousId from messages
            union all select 'anonymous_id', previousId from messages
            union all select 'device_id', context ->> '$.device.id' from messages
            union all select 'email', sha256(lower(trim(traits ->> '$.email'))) from messages
        ) where value is not null order by all
        """
    )
    known = history.rows("select distinct identifier_type, identifier_value from true_identifiers order by all")
    assert sent == known


def test_every_identifier_of_an_accepted_message_is_in_the_truth_and_no_other(history: History) -> None:
    assert_identifiers_are_those_of_accepted_messages(history)


def test_what_only_refused_messages_name_is_not_in_the_truth(
    read: Callable[[SimulationReport], History], run: Callable[..., SimulationReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segue.events.simulator.delivery.BROKEN_SHARE", 0.9)
    assert_identifiers_are_those_of_accepted_messages(read(run()))


def test_the_truth_about_identity_agrees_with_itself(history: History) -> None:
    assert history.one("select count(*) from true_people") == history.report.people
    assert history.one("select count(*) - count(distinct (person, user_id, email)) from true_people") == 0
    shared = """
        select count(*) from (
            select any_value(is_shared) as is_shared, count(distinct person) as people, bool_or(is_shared) as any_shared
            from true_identifiers group by identifier_type, identifier_value
        ) where is_shared <> (people > 1) or any_shared <> is_shared
    """
    assert history.one(shared) == 0
    own = """
        select count(*) from true_identifiers inner join true_people using (person)
        where (identifier_type = 'user_id' and raw_value <> user_id)
        or (identifier_type = 'email' and raw_value <> email)
    """
    assert history.one(own) == 0
    hashes = history.rows("select raw_value, identifier_value from true_identifiers where identifier_type = 'email'")
    assert len(hashes) > 100
    assert all(hashlib.sha256(raw.encode()).hexdigest() == value for raw, value in hashes)
    # An account that a message names is used by the person who has the other identifiers of the message.
    strangers = """
        select count(*) from messages
        inner join true_identifiers as a on a.identifier_value = anonymousId and not a.is_shared
        inner join true_people as p on p.user_id = messages.userId
        where a.person <> p.person
    """
    assert history.one(strangers) == 0


def test_disturbed_days_count_the_messages_that_happened_then(history: History) -> None:
    counted = """
        select kind, date, message_count, (select count(*) from messages where timestamp::date = date)
        from true_disturbed_days
    """
    rows = history.rows(counted)
    assert {kind for kind, *_ in rows} == {"holiday", "outage", "promotion"}
    assert all(said == counted for _, _, said, counted in rows)
    ((lost, effect, kept),) = history.rows(
        "select lost_message_count, effect, message_count from true_disturbed_days where kind = 'outage'"
    )
    assert effect == pytest.approx(kept / (kept + lost), abs=1e-4)


def test_the_truth_gives_dates_in_order(history: History) -> None:
    wrong = """
        select count(*) from true_people
        where signed_up_at::date < arrived_on or churned_on < arrived_on or became_power_user_on < arrived_on
        or (has_churned and churned_on >= date '2026-03-01') or (will_churn and churned_on < date '2026-03-01')
        or has_churned and will_churn
    """
    assert history.one(wrong) == 0


def test_an_ingest_finds_exactly_what_the_truth_says(history: History, warehouse: Warehouse) -> None:
    report = history.report
    as_of = datetime(2026, 3, 1, tzinfo=UTC)
    # A week is enough, and duplicates of what came before it are no duplicates here.
    files = sorted(report.events.iterdir())[-7:]
    names = ", ".join(f"'{path.name}'" for path in files)
    expected = dict(
        history.rows(
            f"""
            select reason, count(*) from true_messages
            where kind = 'contract_breaking' and file in ({names}) group by all
            """
        )
    )
    found = ingest(warehouse, files, as_of=as_of)
    assert found.read == history.one(f"select count(*) from lines where file in ({names})")
    assert dict(found.quarantined) == expected
    assert found.loaded == history.one(
        f"""
        select count(distinct messageId) from lines where file in ({names})
        and messageId not in (select message_id from true_messages where kind = 'contract_breaking')
        """
    )
    with warehouse.read() as con:
        ids = con.execute(
            "select reason, json_extract_string(payload, '$.messageId') from raw.quarantine "
            "where reason <> 'broken_json' order by all"
        ).fetchall()
    planted = history.rows(
        f"""
        select reason, message_id from true_messages
        where kind = 'contract_breaking' and reason <> 'broken_json' and file in ({names}) order by all
        """
    )
    assert ids == planted
