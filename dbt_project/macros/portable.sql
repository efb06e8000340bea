{#- What DuckDB and Spark say differently, or say alike and mean differently: models use these instead of
    date_diff, extract(dow), JSON operators and array functions. -#}

{#- Text at a path of a JSON column; null when absent, JSON null or empty. `path` is like 'device.id'. -#}
{%- macro json_text(column, path) -%}
    {{- adapter.dispatch('json_text', 'segue')(column, path) -}}
{%- endmacro -%}

{%- macro default__json_text(column, path) -%}
    nullif(trim(json_extract_string({{ column }}, '$.{{ path }}')), '')
{%- endmacro -%}

{%- macro spark__json_text(column, path) -%}
    nullif(trim(get_json_object({{ column }}, '$.{{ path }}')), '')
{%- endmacro -%}

{#- The same for several paths at once, as an array: the text is parsed once, which is what costs. -#}
{%- macro json_texts(column, paths) -%}
    {{- adapter.dispatch('json_texts', 'segue')(column, paths) -}}
{%- endmacro -%}

{%- macro default__json_texts(column, paths) -%}
    json_extract_string({{ column }}, ['$.{{ paths | join("', '$.") }}'])
{%- endmacro -%}

{%- macro spark__json_texts(column, paths) -%}
    array(
    {%- for path in paths -%}
        get_json_object({{ column }}, '$.{{ path }}'){{ ', ' if not loop.last }}
    {%- endfor -%}
    )
{%- endmacro -%}

{#- One of them, by its place among the paths, the first being 1. -#}
{%- macro json_text_at(texts, place) -%}
    {{- adapter.dispatch('json_text_at', 'segue')(texts, place) -}}
{%- endmacro -%}

{%- macro default__json_text_at(texts, place) -%}
    nullif(trim({{ texts }}[{{ place }}]), '')
{%- endmacro -%}

{%- macro spark__json_text_at(texts, place) -%}
    nullif(trim(element_at({{ texts }}, {{ place }})), '')
{%- endmacro -%}

{#- Money from a text: decimal, so that sums do not depend on the order of the rows. -#}
{%- macro money(text) -%}
    try_cast({{ text }} as decimal(18, 2))
{%- endmacro -%}

{#- Seconds from one timestamp to a later one, with fractions: decimal(18, 3). -#}
{%- macro seconds_between(earlier, later) -%}
    {{- adapter.dispatch('seconds_between', 'segue')(earlier, later) -}}
{%- endmacro -%}

{%- macro default__seconds_between(earlier, later) -%}
    cast((epoch_ms({{ later }}) - epoch_ms({{ earlier }})) / 1000.0 as decimal(18, 3))
{%- endmacro -%}

{%- macro spark__seconds_between(earlier, later) -%}
    cast((unix_millis({{ later }}) - unix_millis({{ earlier }})) / 1000.0 as decimal(18, 3))
{%- endmacro -%}

{#- Microseconds since 1970 of a timestamp. -#}
{%- macro epoch_microseconds(moment) -%}
    {{- adapter.dispatch('epoch_microseconds', 'segue')(moment) -}}
{%- endmacro -%}

{%- macro default__epoch_microseconds(moment) -%}
    epoch_us({{ moment }})
{%- endmacro -%}

{%- macro spark__epoch_microseconds(moment) -%}
    unix_micros({{ moment }})
{%- endmacro -%}

{#- Day of the week of a timestamp, Monday 1 to Sunday 7: day 0 of the epoch was a Thursday. -#}
{%- macro weekday(moment) -%}
    (cast(floor({{ epoch_microseconds(moment) }} / 86400000000.0) as bigint) + 3) % 7 + 1
{%- endmacro -%}

{#- One row per day from the first to the last, both dates included, in a column `date`. -#}
{%- macro days_from_to(first, last) -%}
    {{- adapter.dispatch('days_from_to', 'segue')(first, last) -}}
{%- endmacro -%}

{%- macro default__days_from_to(first, last) -%}
    select cast(unnest(generate_series({{ first }}, {{ last }}, interval 1 day)) as date) as date
{%- endmacro -%}

{%- macro spark__days_from_to(first, last) -%}
    select explode(sequence({{ first }}, {{ last }}, interval 1 day)) as date
{%- endmacro -%}

{#- The middle of a group's values. -#}
{%- macro middle(value) -%}
    {{- adapter.dispatch('middle', 'segue')(value) -}}
{%- endmacro -%}

{%- macro default__middle(value) -%}
    median({{ value }})
{%- endmacro -%}

{%- macro spark__middle(value) -%}
    percentile(cast({{ value }} as double), 0.5)
{%- endmacro -%}

{#- The first instant of the hour of a timestamp. -#}
{%- macro hour_of(moment) -%}
    date_trunc('hour', {{ moment }})
{%- endmacro -%}

{#- One row per element of a column that holds a JSON list as text; none when it holds anything else. -#}
{%- macro json_elements(relation, column, name, others) -%}
    {{- adapter.dispatch('json_elements', 'segue')(relation, column, name, others) -}}
{%- endmacro -%}

{%- macro default__json_elements(relation, column, name, others) -%}
    select unnest(try_cast({{ column }} as json[])) as {{ name }}, {{ others }}
    from {{ relation }}
    where {{ column }} is not null
{%- endmacro -%}

{%- macro spark__json_elements(relation, column, name, others) -%}
    select explode(from_json({{ column }}, 'array<string>')) as {{ name }}, {{ others }}
    from {{ relation }}
    where {{ column }} is not null
{%- endmacro -%}

{#- Several rows of each row of a relation, in one pass over it: `rows` is a list of lists of SQL, one for each of the
    columns `names`; `others` are columns that stay as they are. -#}
{%- macro rows_of_each(relation, names, rows, others) -%}
    {{- adapter.dispatch('rows_of_each', 'segue')(relation, names, rows, others) -}}
{%- endmacro -%}

{%- macro default__rows_of_each(relation, names, rows, others) -%}
    select
        unnest([
            {%- for row in rows %}
            struct_pack({% for name in names %}{{ name }} := {{ row[loop.index0] }}{{ ', ' if not loop.last }}{% endfor %})
            {{- ',' if not loop.last }}
            {%- endfor %}
        ], recursive := true),
        {{ others }}
    from {{ relation }}
{%- endmacro -%}

{%- macro spark__rows_of_each(relation, names, rows, others) -%}
    select
        inline(array(
            {%- for row in rows %}
            named_struct({% for name in names %}'{{ name }}', {{ row[loop.index0] }}{{ ', ' if not loop.last }}{% endfor %})
            {{- ',' if not loop.last }}
            {%- endfor %}
        )),
        {{ others }}
    from {{ relation }}
{%- endmacro -%}
