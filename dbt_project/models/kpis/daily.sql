{%- for name in kpi_models() %}
select kpi, slice, date, value, numerator, denominator, is_complete from {{ ref(name) }}
{%- if not loop.last %}
union all
{%- endif %}
{%- endfor %}
