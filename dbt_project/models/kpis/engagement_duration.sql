{{ config(materialized='view') }}

with activity as (select * from {{ ref('activity') }})

select
    'engagement_duration' as kpi,
    slice,
    date,
    duration_seconds / nullif(session_count, 0) as value,
    cast(duration_seconds as double) as numerator,
    cast(session_count as double) as denominator,
    is_complete
from activity
