select user_id as identifier_value, min(occurred_at) as first_seen_at
from {{ ref('stg_events') }}
group by user_id
