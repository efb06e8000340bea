{{ config(materialized='incremental', incremental_strategy='append') }}

{%- set mark = high_water_mark(this) %}
{%- set paths = {
    'context': {
        'device_id': 'device.id',
        'advertising_id': 'device.advertisingId',
        'external_ids': 'externalIds',
        'device_type': 'device.type',
        'os_name': 'os.name',
        'library_name': 'library.name',
        'campaign_medium': 'campaign.medium',
        'preferences': 'consent.categoryPreferences',
        'location_country': 'location.country',
        'context_path': 'page.path',
        'context_email': 'traits.email',
        'context_phone': 'traits.phone',
    },
    'traits': {'traits_email': 'email', 'traits_phone': 'phone', 'traits_country': 'country'},
    'properties': {'properties_path': 'path', 'category': 'category', 'revenue': 'revenue'},
} %}

with messages as (
    {{ unread(source('raw', 'events'), mark) }}
),

received as (
    select
        *,
        {{ json_texts('context', paths.context.values() | list) }} as context_texts,
        {{ json_texts('traits', paths.traits.values() | list) }} as traits_texts,
        {{ json_texts('properties', paths.properties.values() | list) }} as properties_texts
    from messages
    where received_at <= {{ as_of() }}
),

known as (
    select
        *
        {%- for column, names in paths.items() %}
        {%- for name in names %},
        {{ json_text_at(column ~ '_texts', loop.index) }} as {{ name }}
        {%- endfor %}
        {%- endfor %}
    from received
),

-- What is said of the person. The traits of a group message are those of the group, wherever they stand: who shares a
-- company's address is not one person.
of_person as (
    select
        *,
        case when type <> 'group' then coalesce(traits_email, context_email) end as email,
        case when type <> 'group' then coalesce(traits_phone, context_phone) end as telephone,
        coalesce(location_country, case when type <> 'group' then traits_country end) as known_country
    from known
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
    advertising_id,
    {{ email_key('email') }} as email_hash,
    {{ phone_number('telephone', 'known_country') }} as phone,
    -- A list of {type, id}, as text; stg_identifiers and stg_links take it apart.
    external_ids,
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
    upper(known_country) as country,
    coalesce(context_path, properties_path) as page_path,
    category,
    {{ money('revenue') }} as revenue,
    not coalesce({{ declines_analytics('preferences') }}, false) as has_analytics_consent,
    properties,
    traits,
    source,
    load_id
from of_person
