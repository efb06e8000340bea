{#- The days that a KPI run rebuilds, as naive UTC timestamps: from window_start, before window_end.
    Set by whoever starts dbt (SEGUE_WINDOW_START, SEGUE_WINDOW_END); null means no limit on that side. -#}
{%- macro window_start() -%}
    {{- adapter.dispatch('window_start', 'segue')() -}}
{%- endmacro -%}

{%- macro default__window_start() -%}
    cast(getvariable('window_start') as timestamp)
{%- endmacro -%}

{%- macro window_end() -%}
    {{- adapter.dispatch('window_end', 'segue')() -}}
{%- endmacro -%}

{%- macro default__window_end() -%}
    cast(getvariable('window_end') as timestamp)
{%- endmacro -%}

{#- The last UTC day that had begun at as_of: at midnight sharp, the day that has just ended. -#}
{%- macro day_of_as_of() -%}
    cast({{ as_of() }} - interval 1 microsecond as date)
{%- endmacro -%}
