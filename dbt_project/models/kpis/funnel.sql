{{ config(materialized='table') }}

with steps as (
    {%- for step in var('funnel_steps') %}
    select {{ loop.index }} as position, '{{ step | replace("'", "''") }}' as step
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
),

days as (
    select distinct person_id, date, event_type, event_name
    from {{ ref('int_person_days') }}
),

done as (
    select
        days.person_id,
        days.date,
        steps.position,
        count(*) over (
            partition by days.person_id, days.date
            order by steps.position
            rows between unbounded preceding and current row
        ) as done_count
    from days
    inner join steps on days.event_type = 'track' and days.event_name = steps.step
),

active as (
    select date, count(distinct person_id) as person_count
    from days
    group by date
),

-- Who skipped a step has not reached the next one.
reached as (
    select date, position, count(*) as person_count
    from done
    where done_count = position
    group by date, position
)

select date, 0 as position, 'Active' as step, person_count, {{ is_over('date') }} as is_complete
from active
union all
select
    active.date,
    steps.position,
    steps.step,
    coalesce(reached.person_count, 0) as person_count,
    {{ is_over('active.date') }} as is_complete
from active
cross join steps
left join reached on active.date = reached.date and steps.position = reached.position
