with evaluations as (
    select *, cast(as_of - interval 1 microsecond as date) as date
    from {{ source('segments', 'evaluations') }}
    where as_of <= {{ as_of() }}
),

ranked as (
    select *, row_number() over (partition by segment, date order by as_of desc) as position
    from evaluations
)

select
    'segment_size' as kpi,
    'segment=' || segment as slice,
    date,
    cast(member_count as double) as value,
    cast(member_count as double) as numerator,
    cast(active_count as double) as denominator,
    {{ is_over('date') }} as is_complete
from ranked
where position = 1
