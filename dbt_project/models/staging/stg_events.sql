{{ config(materialized='incremental', incremental_strategy='append') }}

{%- set mark = high_water_mark(this) %}

with messages as (
    {{ unread(source('raw', 'events'), mark) }}
),

known as (
    select
        *,
        {{ json_text('context', 'device.id') }} as device_id,
        {{ json_text('context', 'device.type') }} as device_type,
        {{ json_text('context', 'os.name') }} as os_name,
        {{ json_text('context', 'library.name') }} as library_name,
        {{ json_text('context', 'campaign.medium') }} as campaign_medium,
        coalesce({{ json_text('traits', 'email') }}, {{ json_text('context', 'traits.email') }}) as email,
        {{ json_text('context', 'consent.categoryPreferences.analytics') }} as analytics_consent
    from messages
    where received_at <= {{ as_of() }}
)

select
    message_id,
    type as event_type,
    coalesce(event, name) as event_name,
    -- Nothing can have happened after we heard of it, whatever a wrong clock says.
    least(timestamp, received_at) as occurred_at,
    received_at,
    nullif(trim(user_id), '') as user_id,
    nullif(trim(anonymous_id), '') as anonymous_id,
    nullif(trim(previous_id), '') as previous_id,
    nullif(trim(group_id), '') as group_id,
    device_id,
    {{ sha256_hex('lower(email)') }} as email_hash,
    case
        when lower(library_name) like '%analytics.js%' or lower(library_name) like '%javascript%' then 'web'
        when lower(device_type) in ('ios', 'android') then lower(device_type)
        when lower(os_name) in ('ios', 'ipados', 'iphone os') then 'ios'
        when lower(os_name) = 'android' then 'android'
        when lower(library_name) like '%ios%' or lower(library_name) like '%swift%' then 'ios'
        when lower(library_name) like '%android%' or lower(library_name) like '%kotlin%' then 'android'
        when type = 'page' or library_name is not null or os_name is not null then 'web'
    end as platform,
    lower(coalesce(campaign_medium, 'direct')) as channel,
    upper(coalesce({{ json_text('context', 'location.country') }}, {{ json_text('traits', 'country') }})) as country,
    coalesce({{ json_text('context', 'page.path') }}, {{ json_text('properties', 'path') }}) as page_path,
    {{ json_text('properties', 'category') }} as category,
    {{ json_money('properties', 'revenue') }} as revenue,
    coalesce(lower(analytics_consent) <> 'false', true) as has_analytics_consent,
    properties,
    traits,
    source,
    load_id
from known
