{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        pre_hook="{{ forget_days(var('retention_days')) }}"
    )
}}

{%- set first_day = first_rebuilt_day(var('retention_days')) %}
{%- set delay = "interval '" ~ var('retention_days') ~ "' day" %}

with days as (
    {% if is_incremental() -%}
    select date from rebuilt_days
    {%- else -%}
    {{ days_to_rebuild(var('retention_days')) }}
    {%- endif %}
),

people as (select person_id, first_seen_at from {{ ref('person_features') }}),

sessions as (
    select person_id as visitor_id, started_at, {{ dimensions() | join(', ') }}
    from {{ ref('sessions') }}
    where {{ not_before('started_at', first_day, delay) }}
),

active_days as (
    select distinct person_id, date
    from {{ ref('int_person_days') }}
    where {{ not_before('date', first_day, delay) }}
),

-- Everybody who was new so many days before one of the days, with where their first visit came from.
newcomers as (
    select
        days.date,
        people.person_id,
        sessions.*,
        cast(people.first_seen_at as date) as first_date
    from people
    inner join days on cast(people.first_seen_at as date) = cast(days.date - {{ delay }} as date)
    left join sessions on people.person_id = sessions.visitor_id and people.first_seen_at = sessions.started_at
),

returned as (
    select distinct newcomers.person_id
    from newcomers
    inner join active_days
        on
            newcomers.person_id = active_days.person_id
            and newcomers.first_date < active_days.date
            and newcomers.date >= active_days.date
),

slices as (
    {{ slices_of_values() }}
),

sliced as (
    select 'all' as slice, date, person_id from newcomers
    {%- for dimension in dimensions() %}
    union all
    select slices.slice, newcomers.date, newcomers.person_id
    from newcomers
    inner join slices on slices.dimension = '{{ dimension }}' and newcomers.{{ dimension }} = slices.value
    {%- endfor %}
),

counted as (
    select
        sliced.slice,
        sliced.date,
        count(*) as newcomer_count,
        count(returned.person_id) as returned_count
    from sliced
    left join returned on sliced.person_id = returned.person_id
    group by sliced.slice, sliced.date
),

spine as (
    select 'all' as slice, date from days
    union
    select slice, date from counted
)

select
    'retention' as kpi,
    spine.slice,
    spine.date,
    cast(counted.returned_count as double) / nullif(counted.newcomer_count, 0) as value,
    cast(coalesce(counted.returned_count, 0) as double) as numerator,
    cast(coalesce(counted.newcomer_count, 0) as double) as denominator,
    {{ is_over('spine.date') }} as is_complete
from spine
left join counted on spine.slice = counted.slice and spine.date = counted.date
