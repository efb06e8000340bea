with people as (select * from {{ ref('person_features') }})

select
    person_id,
    'last seen on ' || cast(cast(last_seen_at as date) as varchar) as reason
from people
where last_seen_at < {{ as_of() }} - interval '{{ var("inactive_hours") }}' hour
