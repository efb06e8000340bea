{{ config(materialized='view') }}

with activity as (select * from {{ ref('activity') }})

select
    'revenue' as kpi,
    slice,
    date,
    cast(revenue as double) as value,
    cast(revenue as double) as numerator,
    cast(null as double) as denominator,
    is_complete
from activity
