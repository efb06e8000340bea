{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        pre_hook='{{ forget_days() }}'
    )
}}

{%- set first_day = first_rebuilt_day() %}

with days as (
    {% if is_incremental() -%}
    select date from rebuilt_days
    {%- else -%}
    {{ days_to_rebuild() }}
    {%- endif %}
),

sessions as (
    select *, cast(started_at as date) as date, cast(ended_at as date) as end_date
    from {{ ref('sessions') }}
    where {{ not_before('ended_at', first_day) }}
),

memberships as (select * from {{ source('segments', 'memberships') }}),

-- A segment has figures on the days on which it was evaluated; what is evaluated at midnight is the day before.
evaluated as (
    select distinct segment, cast(as_of - interval 1 microsecond as date) as date
    from {{ source('segments', 'evaluations') }}
    where as_of <= {{ as_of() }}
),

slices as (
    {{ slices_of_values() }}
),

sliced as (
    select 'all' as slice, sessions.* from sessions
    {%- for dimension in dimensions() %}
    union all
    select slices.slice, sessions.*
    from sessions
    inner join slices on slices.dimension = '{{ dimension }}' and sessions.{{ dimension }} = slices.value
    {%- endfor %}
    union all
    -- Who was in the segment when the session began.
    select 'segment=' || memberships.segment, sessions.*
    from sessions
    inner join memberships
        on
            sessions.person_id = memberships.person_id
            and sessions.started_at >= memberships.entered_at
            and (memberships.exited_at is null or sessions.started_at < memberships.exited_at)
),

counted as (
    select
        slice,
        date,
        count(*) as session_count,
        sum(case when is_converted then 1 else 0 end) as converted_session_count,
        sum(duration_seconds) as duration_seconds,
        {{ middle('duration_seconds') }} as median_duration_seconds,
        sum(signup_count) as signup_count,
        sum(order_count) as order_count,
        sum(revenue) as revenue
    from sliced
    group by slice, date
),

-- A session that runs past midnight is activity on each of its days.
active as (
    select slice, date, person_id from sliced
    union
    select sliced.slice, days.date, sliced.person_id
    from sliced
    inner join days on sliced.date < days.date and sliced.end_date >= days.date
    where sliced.date < sliced.end_date
),

people as (
    select slice, date, count(*) as person_count
    from active
    group by slice, date
),

-- A day without events counts as zero from the first day of a slice on.
first_dates as (
    select 'all' as slice, min(cast(started_at as date)) as first_date
    from {{ ref('sessions') }}
    union all
    select slice, min(first_date)
    from slices
    group by slice
),

spine as (
    select first_dates.slice, days.date
    from days
    inner join first_dates on days.date >= first_dates.first_date
    union all
    select 'segment=' || evaluated.segment, days.date
    from days
    inner join evaluated on days.date = evaluated.date
)

select
    spine.date,
    spine.slice,
    coalesce(counted.session_count, 0) as session_count,
    cast(coalesce(counted.converted_session_count, 0) as bigint) as converted_session_count,
    cast(coalesce(counted.duration_seconds, 0) as double) as duration_seconds,
    cast(counted.median_duration_seconds as double) as median_duration_seconds,
    cast(coalesce(counted.signup_count, 0) as bigint) as signup_count,
    cast(coalesce(counted.order_count, 0) as bigint) as order_count,
    cast(coalesce(counted.revenue, 0) as double) as revenue,
    coalesce(people.person_count, 0) as person_count,
    {{ is_over('spine.date') }} as is_complete
from spine
left join counted on spine.slice = counted.slice and spine.date = counted.date
left join people on spine.slice = people.slice and spine.date = people.date
