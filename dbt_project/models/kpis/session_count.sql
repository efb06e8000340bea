{{ config(materialized='view') }}

with activity as (select * from {{ ref('activity') }})

select
    'sessions' as kpi,
    slice,
    date,
    cast(session_count as double) as value,
    cast(session_count as double) as numerator,
    cast(null as double) as denominator,
    is_complete
from activity
