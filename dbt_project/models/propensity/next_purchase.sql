with people as (select * from {{ ref('person_features') }})

select
    person_id,
    -- Who is asked about: whoever was here in the last 28 days.
    last_seen_at > {{ as_of() }} - interval '28' day as is_eligible,
    -- What is asked, when the horizon is over: an order since it began.
    coalesce(last_ordered_at > {{ before_horizon() }}, false) as is_success
from people
