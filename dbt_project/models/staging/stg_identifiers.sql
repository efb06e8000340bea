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

sent as (
    {{ mentions_of('events') }}
),

mentions as (
    select *, {{ refusal('identifier_type', 'identifier_value') }} as refused_reason
    from sent
),

fresh as (
    select
        identifier_type,
        {{ kept_value() }} as identifier_value,
        {{ refused_if_all('refused_reason') }} as refused_reason,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        min(received_at) as first_received_at,
        max(received_at) as last_received_at,
        max(load_id) as last_load_id
    from mentions
    group by identifier_type, {{ kept_value() }}
)
{%- if mark %},

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

select
    identifier_type,
    identifier_value,
    {{ refused_if_all('refused_reason') }} as refused_reason,
    min(first_seen_at) as first_seen_at,
    max(last_seen_at) as last_seen_at,
    min(first_received_at) as first_received_at,
    max(last_received_at) as last_received_at,
    max(last_load_id) as last_load_id
from all_seen
group by identifier_type, identifier_value
{%- else %}

select * from fresh
{%- endif %}
