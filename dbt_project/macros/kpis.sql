{#- The KPI models: those whose YAML says `meta: {segue: {kpi: …}}`. Whoever starts dbt has looked. -#}
{%- macro kpi_models() -%}
    {{- return(env_var('SEGUE_KPIS').split()) -}}
{%- endmacro -%}

{#- The columns of a session by which every KPI is divided. -#}
{%- macro dimensions() -%}
    {{- return(var('kpi_dimensions')) -}}
{%- endmacro -%}

{#-
    The slice of each value of each dimension, and since when there is one: `dimension, value, slice, first_date`.
    Values come with events, and anybody may send a million of them: the first ones get a slice each, all later ones
    share one. First come, first served, so that no day changes its slices when another day becomes known.
-#}
{%- macro slices_of_values() -%}
    select
        dimension,
        value,
        case when place <= {{ var('kpi_slices') }} then dimension || '=' || value else dimension || '=other' end as slice,
        cast(first_at as date) as first_date
    from (
        {%- for dimension in dimensions() %}
        select
            '{{ dimension }}' as dimension,
            {{ dimension }} as value,
            min(started_at) as first_at,
            row_number() over (order by min(started_at), {{ dimension }}) as place
        from {{ ref('sessions') }}
        where {{ dimension }} is not null
        group by {{ dimension }}
        {%- if not loop.last %}
        union all
        {%- endif %}
        {%- endfor %}
    ) as numbered
{%- endmacro -%}
