{{ config(materialized='view') }}

with events as (select * from {{ ref('stg_events') }}),

identifiers as (select * from {{ source('identity', 'identifiers') }}),

users as (
    select identifier_value, person_id
    from identifiers
    where identifier_type = 'user_id'
),

browsers as (
    select identifier_value, person_id
    from identifiers
    where identifier_type = 'anonymous_id'
),

devices as (
    select identifier_value, person_id
    from identifiers
    where identifier_type = 'device_id'
)

select
    coalesce(users.person_id, browsers.person_id, devices.person_id) as person_id,
    events.*
from events
left join users on events.user_id = users.identifier_value
left join browsers on events.anonymous_id = browsers.identifier_value
left join devices on events.device_id = devices.identifier_value
