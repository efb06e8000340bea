{#- The columns tell the rows apart, and none of them is null. One test, since each costs a query.
    A `where` in its config keeps it to recent rows of tables that grow. -#}
{% test is_key(model, columns) %}
select {{ columns | join(', ') }}, count(*) as row_count
from {{ model }}
group by {{ columns | join(', ') }}
having
    count(*) > 1
    {%- for column in columns %}
    or {{ column }} is null
    {%- endfor %}
{% endtest %}
