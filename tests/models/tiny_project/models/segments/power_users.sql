with people as (select * from {{ ref('person_features') }})

select person_id, event_count || ' events' as reason
from people
where event_count > {{ var('power_user_events') }}
