with people as (select * from {{ ref('person_features') }})

select
    person_id,
    session_count || ' visits, '
    || coalesce('last signed in on ' || cast(cast(last_signed_in_at as date) as varchar), 'never signed in') as reason
from people
where
    session_count > {{ var('visits_without_sign_in') }}
    and (
        last_signed_in_at is null
        or last_signed_in_at <= {{ as_of() }} - interval '{{ var("not_signed_in_hours") }}' hour
    )
