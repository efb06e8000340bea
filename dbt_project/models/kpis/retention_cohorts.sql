{{ config(materialized='table') }}

with people as (
    select person_id, cast(first_seen_at as date) as first_date
    from {{ ref('person_features') }}
),

active_days as (
    select distinct person_id, date
    from {{ ref('int_person_days') }}
),

-- Whole days and whole weeks since a person's first day; the first one is 0.
visits as (
    select distinct
        people.first_date,
        people.person_id,
        cast(active_days.date as date) - people.first_date as days_since
    from people
    inner join active_days on people.person_id = active_days.person_id and people.first_date <= active_days.date
),

by_period as (
    select 'day' as period, first_date as cohort_date, person_id, days_since as age
    from visits
    where days_since <= 30
    union all
    select distinct
        'week',
        first_date - cast({{ weekday('cast(first_date as timestamp)') }} - 1 as integer),
        person_id,
        cast(floor(days_since / 7.0) as bigint)
    from visits
    where days_since < 7 * 27
),

sizes as (
    select period, cohort_date, count(*) as person_count
    from by_period
    where age = 0
    group by period, cohort_date
)

select
    by_period.period,
    by_period.cohort_date,
    cast(by_period.age as bigint) as age,
    sizes.person_count,
    count(*) as returned_count,
    -- The youngest of the cohort has lived that long.
    cast(by_period.cohort_date as timestamp)
    + (by_period.age + 1) * case when by_period.period = 'day' then interval 1 day else interval 7 day end
    + case when by_period.period = 'day' then interval 0 day else interval 6 day end
    <= {{ as_of() }} as is_complete
from by_period
inner join sizes on by_period.period = sizes.period and by_period.cohort_date = sizes.cohort_date
group by by_period.period, by_period.cohort_date, by_period.age, sizes.person_count
