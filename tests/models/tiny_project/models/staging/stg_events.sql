{{ config(materialized='incremental', incremental_strategy='append') }}
select message_id, event as event_name, timestamp as occurred_at, received_at, user_id, previous_id, load_id
from {{ source('raw', 'events') }}
{% if is_incremental() %}
where load_id > (select coalesce(max(load_id), 0) from {{ this }})
{% endif %}
