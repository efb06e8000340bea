{#- Whether a message declined analytics: whether any category that stands for it is false. `preferences` is what its
    consent.categoryPreferences says, JSON as text. Senders choose the case of their categories, so none is told apart;
    what a key looks like in JSON is found as text, as a path would find one case only.
    analyses/browser_signals.sql asks who said yes, by the same categories. -#}
{%- macro declines_analytics(preferences) -%}
    {%- set said = var('analytics_categories') -%}
    (
    {%- for category in ([said] if said is string else said) %}
        {%- set key = '"' ~ category | lower | replace("'", "''") ~ '":' %}
        contains(lower({{ preferences }}), '{{ key }}false') or contains(lower({{ preferences }}), '{{ key }}"false"')
        {{- ' or' if not loop.last }}
    {%- else %}
        false
    {%- endfor %}
    )
{%- endmacro -%}
