-- Between two sessions of a person lies more than the gap; else they would be one.
with sessions as (
    select
        person_id,
        started_at,
        lag(ended_at) over (partition by person_id order by started_at) as previous_ended_at
    from {{ ref('sessions') }}
    where started_at > {{ as_of() }} - interval 3 day
)

select *
from sessions
where started_at <= previous_ended_at + {{ session_gap() }}
