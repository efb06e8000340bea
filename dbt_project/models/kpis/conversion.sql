{{ config(materialized='view') }}

with activity as (select * from {{ ref('activity') }})

select
    'conversion' as kpi,
    slice,
    date,
    cast(converted_session_count as double) / nullif(session_count, 0) as value,
    cast(converted_session_count as double) as numerator,
    cast(session_count as double) as denominator,
    is_complete
from activity
