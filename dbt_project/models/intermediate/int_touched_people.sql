{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        pre_hook='{{ before_touched_people() }}',
        post_hook='{{ after_touched_people() }}'
    )
}}

{%- set mark = high_water_mark(bookkeeping('read_events')) %}

with identifiers as (select * from {{ source('identity', 'identifiers') }}),

seen as (select * from {{ ref('stg_identifiers') }}),

links as (select * from {{ ref('stg_links') }}),

events as (
    {{ unread(ref('int_events'), mark) }}
),

{% if mark -%}
-- Identifiers that belong to another person than when this model last ran, or to their first, or to nobody any more.
moved as (
    select
        coalesce(identifiers.identifier_type, earlier.identifier_type) as identifier_type,
        coalesce(identifiers.identifier_value, earlier.identifier_value) as identifier_value,
        identifiers.person_id as new_person_id,
        earlier.person_id as old_person_id
    from identifiers
    full outer join {{ bookkeeping('read_identifiers') }} as earlier
        on
            identifiers.identifier_type = earlier.identifier_type
            and identifiers.identifier_value = earlier.identifier_value
    where identifiers.person_id is distinct from earlier.person_id
),

moved_since as (
    select moved.*, seen.first_seen_at
    from moved
    inner join seen
        on
            moved.identifier_type = seen.identifier_type
            and moved.identifier_value = seen.identifier_value
),

-- When an identifier gains its first person, or loses its last, its events come from, or fall to, the person of
-- another identifier in the same message.
fellows as (
    select moved_since.first_seen_at, links.right_type as identifier_type, links.right_value as identifier_value
    from moved_since
    inner join links
        on
            moved_since.identifier_type = links.left_type
            and moved_since.identifier_value = links.left_value
    where moved_since.new_person_id is null or moved_since.old_person_id is null
    union all
    select moved_since.first_seen_at, links.left_type, links.left_value
    from moved_since
    inner join links
        on
            moved_since.identifier_type = links.right_type
            and moved_since.identifier_value = links.right_value
    where moved_since.new_person_id is null or moved_since.old_person_id is null
),

changes as (
    select events.person_id, events.occurred_at as changed_at
    from events
    where {{ is_behaviour('events') }}
    union all
    select new_person_id, first_seen_at
    from moved_since
    union all
    select old_person_id, first_seen_at
    from moved_since
    union all
    select identifiers.person_id, fellows.first_seen_at
    from fellows
    inner join identifiers
        on
            fellows.identifier_type = identifiers.identifier_type
            and fellows.identifier_value = identifiers.identifier_value
)
{%- else -%}
changes as (
    select identifiers.person_id, coalesce(seen.first_seen_at, identifiers.first_seen_at) as changed_at
    from identifiers
    left join seen
        on
            identifiers.identifier_type = seen.identifier_type
            and identifiers.identifier_value = seen.identifier_value
)
{%- endif %}

select
    person_id,
    min(changed_at) as rebuild_from
from changes
where person_id is not null
group by person_id
