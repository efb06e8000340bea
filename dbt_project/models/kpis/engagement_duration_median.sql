{{ config(materialized='view') }}

with activity as (select * from {{ ref('activity') }})

select
    'engagement_duration_median' as kpi,
    slice,
    date,
    median_duration_seconds as value,
    cast(null as double) as numerator,
    cast(session_count as double) as denominator,
    is_complete
from activity
where slice not like 'segment=%'
