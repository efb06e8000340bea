with people as (select * from {{ ref('person_features') }})

select
    person_id,
    -- Who is asked about: whoever has come back at least once, and was here in the last 28 days.
    active_days >= 2 and last_seen_at > {{ as_of() }} - interval '28' day as is_eligible,
    -- What is asked, when the horizon is over: nothing since it began.
    last_seen_at <= {{ before_horizon() }} as is_success
from people
