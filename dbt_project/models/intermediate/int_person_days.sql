-- depends_on: {{ ref('int_touched_people') }}
{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        pre_hook="{{ forget_pasts('date') }}",
        post_hook='{{ pasts_are_rebuilt() }}'
    )
}}

with events as (
    select events.*
    from {{ ref('int_events') }} as events
    where
        {{ is_behaviour('events') }}
        and {{ is_rebuilt('events', 'date') }}
)

select
    person_id,
    cast(occurred_at as date) as date,
    event_type,
    event_name,
    category,
    count(*) as event_count,
    sum(revenue) as revenue,
    min(occurred_at) as first_at,
    max(occurred_at) as last_at
from events
group by person_id, cast(occurred_at as date), event_type, event_name, category
