{{ config(materialized='table') }}

-- Five weeks: what one hour is compared with, and the hours that are judged.
with sessions as (
    select *, cast({{ hour_of('started_at') }} as timestamp) as hour_at
    from {{ ref('sessions') }}
    where started_at > {{ as_of() }} - interval 36 day
),

hours as (
    select
        hour_at,
        count(*) as session_count,
        sum(case when is_converted then 1 else 0 end) as converted_session_count
    from sessions
    group by hour_at
)

select
    'sessions' as kpi,
    'all' as slice,
    hour_at,
    cast(session_count as double) as value,
    cast(session_count as double) as numerator,
    cast(null as double) as denominator,
    hour_at + interval 1 hour <= {{ as_of() }} as is_complete
from hours
union all
select
    'conversion' as kpi,
    'all' as slice,
    hour_at,
    cast(converted_session_count as double) / session_count as value,
    cast(converted_session_count as double) as numerator,
    cast(session_count as double) as denominator,
    hour_at + interval 1 hour <= {{ as_of() }} as is_complete
from hours
