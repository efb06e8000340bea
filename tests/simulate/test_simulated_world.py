"""The world: every planted thing is there, and looks as it was planned."""

from datetime import date, timedelta
from typing import Any

import pytest

History = Any  # of conftest.py

BEHAVIOUR = (
    "type in ('page', 'screen') or event in ('Product Viewed', 'Product Added', 'Checkout Started', "
    "'Search Performed', 'Premium Feature Used')"
)


@pytest.fixture(scope="module")
def world(history: History) -> History:
    """With `acts` (message and the person who really sent it) and `visits` (30 minutes apart)."""
    history.con.execute(
        """
        create or replace table owners as
        select identifier_value, any_value(person) as person from true_identifiers
        where identifier_type in ('user_id', 'anonymous_id') and not is_shared group by identifier_value;
        create or replace table acts as
        select messages.*, coalesce(u.person, a.person) as person, context ->> '$.device.type' as device_type
        from messages
        left join owners as u on u.identifier_value = messages.userId
        left join owners as a on a.identifier_value = messages.anonymousId
        where type in ('track', 'page', 'screen');
        create or replace table visits as
        with starts as (
            select *, coalesce(timestamp > lag(timestamp) over w + interval 30 minute, true) as is_start
            from acts where person is not null
            window w as (partition by person order by timestamp, messageId)
        ), numbered as (
            select *, count(*) filter (is_start) over (
                partition by person order by timestamp, messageId rows unbounded preceding
            ) as visit
            from starts
        )
        select person, visit, min(timestamp) as started_at, max(timestamp) as ended_at, count(*) as event_count,
            bool_or(event is not distinct from 'Order Completed') as has_order,
            sum(try_cast(properties ->> '$.revenue' as double)) as revenue,
            count(*) filter (event = 'Premium Feature Used') as premium_count,
            count(*) filter (event = 'Search Performed') as search_count,
            min(device_type) in ('ios', 'android') as is_mobile
        from numbered group by person, visit
        """
    )
    return history


def disturbed(world: History, kind: str) -> list[date]:
    return [day for (day,) in world.rows(f"select date from true_disturbed_days where kind = '{kind}' order by date")]


def against_other_weeks(world: History, day: date, measure: str) -> float:
    """Times the mean of the same weekday one and two weeks before and after, disturbed days left out."""
    query = f"""
        select
            (select {measure} from visits where started_at::date = date '{day}')
            / avg(usual)
        from (
            select started_at::date as date, {measure} as usual
            from visits
            where abs(started_at::date - date '{day}') in (7, 14)
            and started_at::date not in (select date from true_disturbed_days)
            group by all
        )
    """
    return float(world.one(query))


def test_the_vocabulary_is_the_one_of_the_contracts(world: History) -> None:
    events = {event for (event,) in world.rows("select distinct event from messages where event is not null")}
    assert events == {
        "Signed Up", "Signed In", "Signed Out", "Onboarding Completed", "Product Viewed", "Product Added",
        "Checkout Started", "Order Completed", "Search Performed", "Premium Feature Used", "Subscription Started",
        "Subscription Cancelled",
    }  # fmt: skip
    types = {kind for (kind,) in world.rows("select distinct type from messages")}
    assert types == {"track", "identify", "page", "screen", "group", "alias"}


def test_people_come_more_on_weekdays_and_more_and_more(world: History) -> None:
    usual = "started_at::date not in (select date from true_disturbed_days)"
    weekend, weekday = (
        world.one(
            f"""
            select count(*) / count(distinct started_at::date) from visits
            where {usual} and (isodow(started_at) >= 6) = {is_weekend}
            """
        )
        for is_weekend in (True, False)
    )
    assert weekend < 0.85 * weekday
    first, last = (
        world.one(f"select count(*) from visits where {usual} and started_at::date between '{begin}' and '{end}'")
        for begin, end in (("2026-01-05", "2026-01-11"), ("2026-02-23", "2026-03-01"))
    )
    assert last > 1.3 * first


def test_every_holiday_has_a_dip(world: History) -> None:
    days = disturbed(world, "holiday")
    assert days == [date(2026, 1, 1), date(2026, 1, 19), date(2026, 2, 16)]
    assert all(against_other_weeks(world, day, "count(*)") < 0.75 for day in days)


def test_an_outage_and_a_promotion_can_be_judged_at_the_end(world: History) -> None:
    (outage,), (promotion,) = disturbed(world, "outage"), disturbed(world, "promotion")
    until = date(2026, 3, 1)
    for day in (outage, promotion):
        assert until - timedelta(days=21) <= day < until - timedelta(days=5)
        assert all(abs(day - holiday) > timedelta(days=1) for holiday in disturbed(world, "holiday"))
    assert abs(outage - promotion) >= timedelta(days=3)
    assert against_other_weeks(world, outage, "count(*)") < 0.4
    assert against_other_weeks(world, promotion, "avg(has_order::int)") > 1.7


def test_the_planted_clusters_are_far_apart(world: History) -> None:
    habits = {
        name: dict(zip(("mobile", "night", "weekend", "premium", "searches", "basket"), row, strict=True))
        for name, *row in world.rows(
            """
            select first_archetype, avg(is_mobile::int),
                avg((hour(started_at) >= 22 or hour(started_at) < 6)::int), avg((isodow(started_at) >= 6)::int),
                avg(premium_count), avg(search_count), sum(revenue) / count(*) filter (has_order)
            from visits inner join true_people using (person)
            where became_power_user_on is null
            group by all
            """
        )
    }
    night, lunch = habits["night_shoppers"], habits["lunch_browsers"]
    power, bargain = habits["power_users"], habits["bargain_hunters"]
    assert night["night"] > 0.9
    assert night["mobile"] > 0.8
    assert all(night["basket"] > 3 * other["basket"] for other in (lunch, power, bargain))
    assert lunch["night"] < 0.02
    assert lunch["mobile"] < 0.3
    assert lunch["weekend"] < 0.15
    assert bargain["weekend"] > 0.6
    assert all(bargain["searches"] > 3 * other["searches"] for other in (night, lunch, power))
    assert all(power["premium"] > 5 * other["premium"] for other in (night, lunch, bargain))


SEGMENTS = {
    "fewer than 5 sessions a week": "session_count < 5",
    "5 to 15 sessions a week": "session_count between 5 and 15",
    "more than 15 sessions a week": "session_count > 15",
    "onboarded, premium unused for 7 days": "onboarded_at <= t - interval 7 day "
    "and coalesce(premium_at <= t - interval 7 day, true)",
    "visited more than 3 times, not signed in for 48 h": "visit_count > 3 "
    "and coalesce(signed_in_at <= t - interval 48 hour, true)",
    "feature used in the last 3 days": "premium_at > t - interval 3 day",
    "feature never used": "premium_at is null",
    "active in the last 24 h": "seen_at > t - interval 24 hour",
    "active 24 to 72 h ago": "seen_at between t - interval 72 hour and t - interval 24 hour",
    "inactive for 72 h": "seen_at < t - interval 72 hour",
}


@pytest.fixture(scope="module")
def features(world: History) -> History:
    world.con.execute(
        """
        create or replace table features as
        select acts.person, timestamp '2026-03-01' as t, max(timestamp) as seen_at,
            max(timestamp) filter (event = 'Premium Feature Used') as premium_at,
            max(timestamp) filter (event = 'Signed In') as signed_in_at,
            min(timestamp) filter (event = 'Onboarding Completed') as onboarded_at,
            any_value(visit_count) as visit_count, any_value(session_count) as session_count
        from acts
        inner join (
            select person, count(*) as visit_count,
                count(*) filter (started_at > timestamp '2026-03-01' - interval 7 day) as session_count
            from visits group by person
        ) as counted on acts.person = counted.person
        group by acts.person
        """
    )
    return world


@pytest.mark.parametrize("segment", SEGMENTS)
def test_every_segment_has_members_at_the_end(features: History, segment: str) -> None:
    share = features.one(f"select avg(coalesce({SEGMENTS[segment]}, false)::int) from features")
    assert share > 0.02, segment


def test_people_have_several_devices_and_lose_their_cookies(world: History) -> None:
    devices = dict(
        world.rows(
            """
            select kinds, count(*) from (
                select person, count(distinct device_type) as kinds from acts where person is not null group by person
            ) group by all
            """
        )
    )
    assert devices[1] > 50
    assert devices[2] > 50
    assert world.one("select count(distinct device_type) from acts") == 3
    lost = """
        select count(*) from (
            select context ->> '$.device.id' as device from messages group by all having count(distinct anonymousId) > 1
        )
    """
    assert world.one(lost) > 30


def test_people_are_anonymous_before_they_sign_up_and_some_for_good(world: History) -> None:
    before = """
        select count(distinct person) from acts inner join true_people using (person)
        where timestamp < signed_up_at - interval 1 day and acts.userId is null
    """
    assert world.one(before) > 20
    assert world.one("select count(*) from acts inner join true_people using (person) where not is_existing "
                     "and userId is not null and timestamp < signed_up_at") == 0  # fmt: skip
    never = "select count(*) from true_people where not has_account and visit_count > 0"
    assert world.one(never) > 10
    assert world.one("select count(*) from acts inner join true_people using (person) "
                     "where not has_account and userId is not null") == 0  # fmt: skip


def test_a_sign_up_is_told_at_its_time_and_now_and_then_with_an_alias(world: History) -> None:
    told = world.rows(
        """
        select abs(epoch_ms(timestamp) - epoch_ms(signed_up_at)) from acts inner join true_people using (person)
        where event = 'Signed Up'
        """
    )
    assert len(told) > 100
    assert max(told)[0] < 45 * 60_000
    sign_ups = world.one("select count(*) from messages where event = 'Signed Up'")
    aliases = world.rows("select previousId, anonymousId, userId from messages where type = 'alias'")
    assert 0.15 * sign_ups < len(aliases) < 0.6 * sign_ups
    assert all(previous == anonymous and user for previous, anonymous, user in aliases)


def test_families_share_a_computer_and_sometimes_an_anonymous_id(world: History) -> None:
    shared = dict(
        world.rows(
            """
            select identifier_type, count(distinct identifier_value) from true_identifiers where is_shared group by all
            """
        )
    )
    assert shared.keys() == {"device_id", "anonymous_id"}
    assert min(shared.values()) >= 5
    at_once = """
        select count(*) from (select anonymousId from messages group by all having count(distinct userId) > 1)
    """
    assert world.one(at_once) >= 5
    outside = """
        select count(*) from true_identifiers inner join true_people using (person)
        where is_shared and household is null
    """
    assert world.one(outside) == 0


def test_who_leaves_is_not_heard_of_again_and_fades_before(world: History) -> None:
    assert (
        world.one("select count(*) from true_people where has_churned and first_archetype <> 'anonymous_visitors'") > 10
    )
    assert world.one("select count(*) from true_people where will_churn") > 10
    after = """
        select count(*) from acts inner join true_people using (person)
        -- a visit may go on past midnight
        where has_churned and timestamp >= churned_on + interval 1 hour
    """
    assert world.one(after) == 0
    fading = """
        select count(*) filter (started_at >= churned_on - interval 7 day)
            / count(*) filter (started_at < churned_on - interval 14 day and started_at >= churned_on - interval 21 day)
        from visits inner join true_people using (person)
        where has_churned and first_archetype <> 'anonymous_visitors' and arrived_on is null
    """
    assert world.one(fading) < 0.75
    assert world.one("select count(*) from messages where event = 'Subscription Cancelled'") > 0


def test_new_power_users_change_their_lives_late(world: History) -> None:
    new = "became_power_user_on is not null"
    assert world.one(f"select count(*) from true_people where {new} and archetype = 'power_users'") >= 3
    assert world.one(f"select min(became_power_user_on) from true_people where {new}") >= date(2026, 2, 1)
    rates = world.rows(
        f"""
        select count(*) filter (started_at < became_power_user_on) / (became_power_user_on - min(started_at)::date + 1),
            count(*) filter (started_at >= became_power_user_on) / (date '2026-03-01' - became_power_user_on)
        from visits inner join true_people using (person) where {new} group by person, became_power_user_on
        """
    )
    assert sum(after for _, after in rates) > 2 * sum(before for before, _ in rates)


def test_who_declines_analytics_sends_only_what_is_necessary(world: History) -> None:
    declined = "context ->> '$.consent.categoryPreferences.analytics' = 'false'"
    assert world.one(f"select count(*) from messages where {declined}") > 20
    assert world.one(f"select count(*) from messages where {declined} and ({BEHAVIOUR})") == 0
    unsaid = "(context ->> '$.consent.categoryPreferences.analytics') is null"
    assert world.one(f"select count(*) from messages where {unsaid}") == 0
    preferences = world.one(
        "select count(distinct context ->> '$.consent.categoryPreferences.marketing') from messages"
    )
    assert preferences == 2


def test_late_messages_come_from_phones_days_later(world: History) -> None:
    late = world.rows(
        """
        select platform, count(*), max(delay) from (
            select context ->> '$.device.type' as platform, epoch(receivedAt - timestamp) / 86400 as delay
            from messages inner join true_messages on messageId = message_id and kind = 'late'
        ) group by all
        """
    )
    assert {platform for platform, _, _ in late} == {"ios", "android"}
    assert 2.5 < max(days for _, _, days in late) <= 3
    # Everybody else is heard within a minute.
    others = """
        select max(receivedAt - timestamp) from messages
        where messageId not in (select message_id from true_messages where kind in ('late', 'duplicate'))
    """
    assert world.one(others) < timedelta(minutes=1)


def test_the_rule_of_the_spec_repairs_wrong_clocks(world: History) -> None:
    assert world.one("select count(*) from messages where timestamp <> receivedAt - (sentAt - originalTimestamp)") == 0
    wrong = """
        select count(*), min(abs(epoch(timestamp - originalTimestamp))), max(abs(epoch(timestamp - originalTimestamp)))
        from messages inner join true_messages on messageId = message_id and kind = 'wrong_clock'
    """
    ((count, least, most),) = world.rows(wrong)
    assert count > 500
    assert least > 60
    assert most > 200 * 86400
    right = """
        select max(abs(epoch(timestamp - originalTimestamp))) from messages
        where messageId not in (select message_id from true_messages where kind = 'wrong_clock')
    """
    assert world.one(right) < 10


def test_addresses_are_reserved_ones(world: History) -> None:
    nets = {
        net
        for (net,) in world.rows(
            "select distinct regexp_extract(context ->> '$.ip', '^\\d+\\.\\d+\\.\\d+') from messages"
        )
    }
    assert nets == {"192.0.2", "198.51.100", "203.0.113"}
    assert world.one("select count(*) from true_people where email not like '%@example.com'") == 0


def test_each_visit_hangs_together_and_has_a_few_messages(world: History) -> None:
    usual = world.one("select avg(event_count) from visits where started_at::date not in "
                      "(select date from true_disturbed_days)")  # fmt: skip
    assert 3 < usual < 8
    assert world.one("select max(ended_at - started_at) from visits") < timedelta(hours=4)
