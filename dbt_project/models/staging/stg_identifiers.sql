{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key=['identifier_type', 'identifier_value']
    )
}}

{%- set mark = high_water_mark(this, 'last_load_id', 'last_received_at') %}

with events as (
    {{ unread(ref('stg_events'), mark) }}
),

mentions as (
    select 'user_id' as identifier_type, user_id as identifier_value, occurred_at, received_at, load_id
    from events
    union all
    select 'anonymous_id', anonymous_id, occurred_at, received_at, load_id
    from events
    union all
    select 'device_id', device_id, occurred_at, received_at, load_id
    from events
    union all
    select 'email', email_hash, occurred_at, received_at, load_id
    from events
    union all
    select 'anonymous_id', previous_id, occurred_at, received_at, load_id
    from events
    where event_type = 'alias'
),

fresh as (
    select
        identifier_type,
        identifier_value,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        min(received_at) as first_received_at,
        max(received_at) as last_received_at,
        max(load_id) as last_load_id
    from mentions
    where identifier_value is not null
    group by identifier_type, identifier_value
),

{% if mark -%}
all_seen as (
    select * from fresh
    union all
    select earlier.*
    from {{ this }} as earlier
    where
        exists (
            select 1
            from fresh
            where
                fresh.identifier_type = earlier.identifier_type
                and fresh.identifier_value = earlier.identifier_value
        )
)
{%- else -%}
all_seen as (select * from fresh)
{%- endif %}

select
    identifier_type,
    identifier_value,
    min(first_seen_at) as first_seen_at,
    max(last_seen_at) as last_seen_at,
    min(first_received_at) as first_received_at,
    max(last_received_at) as last_received_at,
    max(last_load_id) as last_load_id
from all_seen
group by identifier_type, identifier_value
