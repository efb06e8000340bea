with people as (select * from {{ ref('person_features') }})

select
    person_id,
    -- Who is asked about: whoever has no subscription and was here in the last 28 days.
    not is_subscribed and last_seen_at > {{ as_of() }} - interval '28' day as is_eligible,
    -- What is asked, when the horizon is over: a subscription has begun since it began.
    coalesce(subscribed_at > {{ before_horizon() }}, false) as is_success
from people
