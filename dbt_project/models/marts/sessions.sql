-- depends_on: {{ ref('int_touched_people') }}
{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        pre_hook="{{ forget_pasts('started_at', 'ended_at', session_gap()) }}",
        post_hook='{{ pasts_are_rebuilt() }}'
    )
}}

with events as (
    select events.*
    from {{ ref('int_events') }} as events
    where
        {{ is_behaviour('events') }}
        and {{ is_rebuilt('events', 'started_at', 'ended_at', session_gap()) }}
),

with_previous as (
    select
        *,
        lag(occurred_at) over (partition by person_id order by occurred_at, message_id) as previous_at
    from events
),

with_start as (
    select
        *,
        case when occurred_at <= previous_at + {{ session_gap() }} then 0 else 1 end as start_count
    from with_previous
),

numbered as (
    select
        *,
        sum(start_count) over (
            partition by person_id
            order by occurred_at, message_id
            rows between unbounded preceding and current row
        ) as session_number
    from with_start
),

grouped as (
    select
        person_id,
        session_number,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        count(*) as event_count,
        sum(case when event_type in ('page', 'screen') then 1 else 0 end) as page_count,
        max(case when start_count = 1 then platform end) as platform,
        max(case when start_count = 1 then channel end) as channel,
        max(case when start_count = 1 then country end) as country,
        max(case when start_count = 1 then page_path end) as first_page_path,
        sum(case when {{ is_event(var('signed_up_event')) }} then 1 else 0 end) as signup_count,
        sum(case when {{ is_event(var('signed_in_event')) }} then 1 else 0 end) as sign_in_count,
        sum(case when {{ is_event(var('ordered_event')) }} then 1 else 0 end) as order_count,
        sum(case when {{ is_event(var('ordered_event')) }} then revenue end) as revenue
    from numbered
    group by person_id, session_number
)

select
    md5(concat(person_id, '|', cast({{ epoch_microseconds('started_at') }} as varchar))) as session_id,
    person_id,
    started_at,
    ended_at,
    {{ seconds_between('started_at', 'ended_at') }} as duration_seconds,
    event_count,
    cast(page_count as bigint) as page_count,
    platform,
    channel,
    country,
    first_page_path,
    cast(signup_count as bigint) as signup_count,
    cast(sign_in_count as bigint) as sign_in_count,
    cast(order_count as bigint) as order_count,
    order_count > 0 as is_converted,
    revenue
from grouped
