select
    i.person_id,
    count(*) as event_count,
    max(e.occurred_at) as last_seen_at
from {{ ref('stg_events') }} e
join {{ source('identity', 'identifiers') }} i on i.identifier_value = e.user_id
where e.occurred_at <= {{ as_of() }}
group by i.person_id
