{#- How an incremental model finds the events it has not read.

    A run reads every staged event, or raw message received by as_of, that is there. So a message has been read
    exactly when its load is not newer than the newest load read, and it was received no later than the latest
    message read. The second half matters when a load holds messages from after an earlier run's as_of.
    The marks are put into the SQL as literals, because only literals let files be skipped. -#}

{#- The mark as {load_id, received_at}; none when nothing has been read or everything is to be read anew. -#}
{%- macro high_water_mark(relation, load_id='load_id', received_at='received_at') -%}
    {%- if execute and is_incremental() -%}
        {%- set query -%}
            select max({{ load_id }}), cast(max({{ received_at }}) as varchar) from {{ relation }}
        {%- endset -%}
        {%- set row = run_query(query).rows[0] -%}
        {%- if row[0] is not none -%}
            {{- return({'load_id': row[0] | int, 'received_at': row[1]}) -}}
        {%- endif -%}
    {%- endif -%}
    {{- return(none) -}}
{%- endmacro -%}

{#- All rows of a relation with load_id and received_at that are beyond the mark. Two branches, not an `or`:
    each can then skip files. -#}
{%- macro unread(relation, mark) -%}
    select * from {{ relation }}
    {%- if mark %}
    where load_id > {{ mark.load_id }}
    union all
    select * from {{ relation }}
    where load_id <= {{ mark.load_id }} and received_at > timestamp '{{ mark.received_at }}'
    {%- endif -%}
{%- endmacro -%}
