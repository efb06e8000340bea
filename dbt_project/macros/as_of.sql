{#- The one clock: a session variable, so that compiled SQL holds no time and can be run as of any moment.
    A view would read the clock of whoever queries it, so a model that uses this must be a table. -#}
{%- macro as_of() -%}
    {%- if execute and model.resource_type == 'model' and model.config.materialized == 'view' -%}
        {{ exceptions.raise_compiler_error(model.name ~ ": a model that uses as_of() cannot be a view; set materialized to table") }}
    {%- endif -%}
    {{- adapter.dispatch('as_of', 'segue')() -}}
{%- endmacro -%}

{%- macro default__as_of() -%}
    getvariable('as_of')
{%- endmacro -%}
