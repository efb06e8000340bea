with people as (select * from {{ ref('person_features') }})

select
    person_id,
    'premium feature last used on ' || cast(cast(last_premium_used_at as date) as varchar) as reason
from people
where last_premium_used_at > {{ as_of() }} - interval '{{ var("feature_recent_days") }}' day
