{#- The KPI models: those whose YAML says `meta: {segue: {kpi: …}}`. Whoever starts dbt has looked. -#}
{%- macro kpi_models() -%}
    {{- return(env_var('SEGUE_KPIS').split()) -}}
{%- endmacro -%}

{#- The columns of a session by which every KPI is divided. -#}
{%- macro dimensions() -%}
    {{- return(var('kpi_dimensions')) -}}
{%- endmacro -%}
