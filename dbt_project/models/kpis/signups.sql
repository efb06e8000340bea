{{ config(materialized='view') }}

with activity as (select * from {{ ref('activity') }})

select
    'signups' as kpi,
    slice,
    date,
    cast(signup_count as double) as value,
    cast(signup_count as double) as numerator,
    cast(null as double) as denominator,
    is_complete
from activity
where slice not like 'segment=%'
