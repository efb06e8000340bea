{{ config(materialized='view') }}

with activity as (select * from {{ ref('activity') }})

select
    'active_people' as kpi,
    slice,
    date,
    cast(person_count as double) as value,
    cast(person_count as double) as numerator,
    cast(null as double) as denominator,
    is_complete
from activity
