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

pairs as (
    {%- set of_event = 'message_id, occurred_at, received_at, load_id' %}
    {%- set names = ['left_type', 'left_value', 'right_type', 'right_value', 'rule'] %}
    {%- set sent = [
        ["'anonymous_id'", 'browser', "'user_id'", 'account_id', "'same_message'"],
        ["'device_id'", 'device', "'user_id'", 'account_id', "'device'"],
        ["'device_id'", 'device', "'anonymous_id'", 'browser', "'device'"],
        ["'email'", 'email', 'anchor_type', 'anchor', "'email'"],
        ["'phone'", 'phone', 'anchor_type', 'anchor', "'phone'"],
        ["'advertising_id'", 'advertising_id', 'anchor_type', 'anchor', "'advertising_id'"],
        ["'anonymous_id'", "case when event_type = 'alias' then previous_id end", "'user_id'", 'account_id', "'alias'"],
    ] %}
    {{ rows_of_each('anchored', names, sent, of_event) }}
    union all
    select external_type, external_value, anchor_type, anchor, 'external_id', {{ of_event }}
    from ({{ external_ids_of('anchored', 'anchor_type, anchor, ' ~ of_event) }}) as sent
    where {{ refusal('external_type', 'external_value') }} is null
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
                fresh.left_type = earlier.left_type
                and fresh.left_value = earlier.left_value
                and fresh.right_type = earlier.right_type
                and fresh.right_value = earlier.right_value
                and fresh.rule = earlier.rule
        )
)

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
{%- else %}

select * from fresh
{%- endif %}
