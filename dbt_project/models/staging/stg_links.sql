{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key=['left_type', 'left_value', 'right_type', 'right_value', 'rule']
    )
}}

{%- set mark = high_water_mark(this, 'last_load_id', 'last_received_at') %}

with events as (
    {{ unread(ref('stg_events'), mark) }}
),

usable as (
    select
        message_id, event_type, occurred_at, received_at, load_id,
        {{ usable('user_id', 'user_id') }} as account_id,
        {{ usable('anonymous_id', 'anonymous_id') }} as browser,
        {{ usable('device_id', 'device_id') }} as device,
        {{ usable('advertising_id', 'advertising_id') }} as advertising_id,
        {{ usable('email', 'email_hash') }} as email,
        {{ usable('phone', 'phone') }} as phone,
        {{ usable('anonymous_id', 'previous_id') }} as previous_id,
        external_ids
    from events
),

-- All other identifiers hang on the account, else on the browser, else on the device.
anchored as (
    select
        *,
        case
            when account_id is not null then 'user_id'
            when browser is not null then 'anonymous_id'
            else 'device_id'
        end as anchor_type,
        coalesce(account_id, browser, device) as anchor
    from usable
),

-- Materialized, since a filter pushed into each part is planned for a tenth of a second, for every batch in real time.
pairs as materialized (
    select
        'anonymous_id' as left_type,
        browser as left_value,
        'user_id' as right_type,
        account_id as right_value,
        'same_message' as rule,
        message_id, occurred_at, received_at, load_id
    from anchored
    union all
    select 'device_id', device, 'user_id', account_id, 'device', message_id, occurred_at, received_at, load_id
    from anchored
    union all
    select 'device_id', device, 'anonymous_id', browser, 'device', message_id, occurred_at, received_at, load_id
    from anchored
    {%- for type in ('email', 'phone', 'advertising_id') %}
    union all
    select '{{ type }}', {{ type }}, anchor_type, anchor, '{{ type }}', message_id, occurred_at, received_at, load_id
    from anchored
    {%- endfor %}
    union all
    select
        external_type, external_value, anchor_type, anchor, 'external_id',
        message_id, occurred_at, received_at, load_id
    from (
        {{ external_ids_of('anchored', 'anchor_type, anchor, message_id, occurred_at, received_at, load_id') }}
    ) as sent
    where {{ refusal('external_type', 'external_value') }} is null
    union all
    select 'anonymous_id', previous_id, 'user_id', account_id, 'alias', message_id, occurred_at, received_at, load_id
    from anchored
    where event_type = 'alias'
),

linked as (
    select * from pairs
    where
        left_value is not null
        and right_value is not null
        and not (left_type = right_type and left_value = right_value)
),

fresh as (
    select
        left_type,
        left_value,
        right_type,
        right_value,
        rule,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        min(received_at) as first_received_at,
        count(*) as link_count,
        -- Of the earliest message.
        min(struct_pack(at := occurred_at, id := message_id)).id as first_message_id,
        max(received_at) as last_received_at,
        max(load_id) as last_load_id
    from linked
    group by left_type, left_value, right_type, right_value, rule
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
                fresh.left_type = earlier.left_type
                and fresh.left_value = earlier.left_value
                and fresh.right_type = earlier.right_type
                and fresh.right_value = earlier.right_value
                and fresh.rule = earlier.rule
        )
)
{%- else -%}
all_seen as (select * from fresh)
{%- endif %}

select
    left_type,
    left_value,
    right_type,
    right_value,
    rule,
    min(first_seen_at) as first_seen_at,
    max(last_seen_at) as last_seen_at,
    min(first_received_at) as first_received_at,
    cast(sum(link_count) as bigint) as link_count,
    min(struct_pack(at := first_seen_at, id := first_message_id)).id as first_message_id,
    max(last_received_at) as last_received_at,
    max(last_load_id) as last_load_id
from all_seen
group by left_type, left_value, right_type, right_value, rule
