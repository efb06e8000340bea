select person_id
from {{ ref('person_features') }}
where last_seen_at > {{ as_of() }} - interval 24 hour
