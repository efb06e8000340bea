{%- set kpis = [
    ref('conversion'),
    ref('engagement_duration'),
    ref('retention'),
    ref('session_count'),
    ref('signups'),
    ref('active_people'),
    ref('revenue'),
    ref('segment_size'),
] %}

{%- for kpi in kpis %}
select kpi, slice, date, value, numerator, denominator, is_complete from {{ kpi }}
{%- if not loop.last %}
union all
{%- endif %}
{%- endfor %}
