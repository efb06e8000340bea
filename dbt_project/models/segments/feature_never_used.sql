with people as (select * from {{ ref('person_features') }})

select
    person_id,
    'premium feature never used since ' || cast(cast(first_seen_at as date) as varchar) as reason
from people
where last_premium_used_at is null
