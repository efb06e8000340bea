{#- When the horizon of a propensity began, seen from its end: for the column is_success of a model in
    models/propensity, whose YAML says `meta: segue: propensity: horizon_days`. -#}
{%- macro before_horizon() -%}
    {{ as_of() }} - interval '{{ propensity_meta(model.name).get("horizon_days", 14) }}' day
{%- endmacro -%}

{#- The probability that the model in force gives a person, between 0 and 1; null while none is. The features are those
    that the YAML of the propensity lists, columns of `people`. -#}
{%- macro propensity_score(name, people) -%}
    {%- set features = propensity_meta(name).get('features', []) -%}
    propensity_score(
        (
            -- A null would be passed over: a model that was withdrawn would come back.
            select nullif(max_by(coalesce(published.model_file, ''), published.published_at), '')
            from {{ source('propensity', 'published') }} as published
            where published.name = '{{ name }}' and published.published_at <= {{ as_of() }}
        ),
        '{{ features | join(",") }}',
        [
            {%- for feature in features %}
            cast({{ people }}.{{ feature }} as double){{ ',' if not loop.last }}
            {%- else %}
            cast(null as double)
            {%- endfor %}
        ]
    )
{%- endmacro -%}

{#- What the YAML of a propensity says; nothing while dbt is still reading files, nor in a unit test. -#}
{%- macro propensity_meta(name) -%}
    {%- set found = {} -%}
    {%- if execute and graph.nodes is defined -%}
        {%- for node in graph.nodes.values() if node.resource_type == 'model' and node.name == name -%}
            {%- set said = ((node.config.meta or {}).get('segue') or {}).get('propensity') or {} -%}
            {%- do found.update(said) -%}
        {%- endfor -%}
    {%- endif -%}
    {{- return(found) -}}
{%- endmacro -%}

{#- Pre-hook of person_scores: where nothing was ever trained, there is no model in force, and no failure. -#}
{%- macro make_published() -%}
    create schema if not exists {{ target.database }}.propensity;
    create table if not exists {{ source('propensity', 'published') }} (
        name varchar, version varchar, model_file varchar, published_at timestamp, reason varchar
    );
{%- endmacro -%}
