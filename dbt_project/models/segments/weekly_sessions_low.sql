with people as (select * from {{ ref('person_features') }})

select
    person_id,
    session_count_7d || ' sessions in the last 7 days' as reason
from people
where session_count_7d < {{ var('weekly_sessions_medium_from') }}
