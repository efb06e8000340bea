{#- Which events the marts are made of: what people did and allowed to be analysed, by a person that is known.
    identify, alias and group say who somebody is, not what they did. -#}
{%- macro is_behaviour(events) -%}
    {{ events }}.event_type in ('track', 'page', 'screen')
    and {{ events }}.has_analytics_consent
    and {{ events }}.person_id is not null
{%- endmacro -%}

{#- A comparison with a literal moment, or so long before it, so that files from before are skipped; always true
    without one. -#}
{%- macro not_before(column, moment, margin="interval '0' day") -%}
    {%- if moment -%}
        {{ column }} >= timestamp '{{ moment }}' - {{ margin }}
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro -%}

{#- Silence longer than this ends a session; silence of exactly this does not. -#}
{%- macro session_gap() -%}
    interval '{{ var("session_gap_minutes") }}' minute
{%- endmacro -%}

{#- Whether an event is the track event of this name. -#}
{%- macro is_event(name) -%}
    event_type = 'track' and event_name = '{{ name | replace("'", "''") }}'
{%- endmacro -%}

{#- Whether a UTC day is one of the last 28, that of as_of included; at midnight sharp, the day that has just ended. -#}
{%- macro is_recent_day() -%}
    date > cast({{ day_of_as_of() }} - interval 28 day as date)
{%- endmacro -%}
