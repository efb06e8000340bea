{#- How KPI models rebuild days: those of the window that the run was given, and those that were not over when they
    were last built. Without a window, all days up to as_of; a full refresh knows no window. -#}

{#- The query that gives the days to rebuild, in a column `date`. `delay`: how many days after the first one the
    KPI starts. -#}
{%- macro days_to_rebuild(delay=0) -%}
    select date
    from (
        {{ days_from_to(
            "(select cast(min(started_at) as date) from " ~ ref('sessions') ~ ") + interval '" ~ delay ~ "' day",
            day_of_as_of()
        ) }}
    ) as days
    {%- if is_incremental() %}
    where
        (
            cast(date as timestamp) >= coalesce({{ window_start() }}, timestamp '1900-01-01 00:00:00')
            and cast(date as timestamp) < coalesce({{ window_end() }}, timestamp '9999-01-01 00:00:00')
        )
        or date in (select date from {{ this }} where not is_complete)
    {%- endif %}
{%- endmacro -%}

{#- Pre-hook: puts the days into the temporary table rebuilt_days, and deletes what is there of them. -#}
{%- macro forget_days(delay=0) -%}
    {%- if is_incremental() %}
    create or replace temp table rebuilt_days as {{ days_to_rebuild(delay) }};
    delete from {{ this }} where date in (select date from rebuilt_days);
    {%- endif -%}
{%- endmacro -%}

{#- The first of these days, as text; none in a full refresh, or when there are none. A literal lets files be
    skipped. -#}
{%- macro first_rebuilt_day(delay=0) -%}
    {%- if execute and is_incremental() -%}
        {%- set query -%}
            select cast(cast(min(date) as timestamp) as varchar) from ({{ days_to_rebuild(delay) }}) as days
        {%- endset -%}
        {{- return(run_query(query).rows[0][0]) -}}
    {%- endif -%}
    {{- return(none) -}}
{%- endmacro -%}

{#- Whether a day is over at as_of. -#}
{%- macro is_over(date) -%}
    cast({{ date }} as timestamp) + interval 1 day <= {{ as_of() }}
{%- endmacro -%}
