with people as (select * from {{ ref('person_features') }})

select
    person_id,
    'onboarded on ' || cast(cast(onboarded_at as date) as varchar) || ', premium '
    || coalesce('last used on ' || cast(cast(last_premium_used_at as date) as varchar), 'never used') as reason
from people
where
    onboarded_at <= {{ as_of() }} - interval '{{ var("premium_unused_days") }}' day
    and (
        last_premium_used_at is null
        or last_premium_used_at <= {{ as_of() }} - interval '{{ var("premium_unused_days") }}' day
    )
