{#- A model that grows holds rows that were made by its definition of then. So it is built anew when its SQL, that of
    a model it is made from, or a variable has changed since: overrides dbt's own answer, which only knows the flag.
    A changed macro is not noticed; that takes `--full-refresh`. -#}
{%- macro should_full_refresh() -%}
    {%- set said = config.get('full_refresh') -%}
    {%- if said is none -%}
        {%- set said = flags.FULL_REFRESH -%}
    {%- endif -%}
    {{- return(said or is_redefined()) -}}
{%- endmacro -%}

{%- macro is_redefined() -%}
    {%- if not execute or model.config.materialized != 'incremental' -%}
        {{- return(false) -}}
    {%- endif -%}
    {%- if model.is_redefined is not defined -%}
        {#- dbt asks many times for one model; the database is asked once. -#}
        {%- set table = adapter.get_relation(target.database, 'intermediate', 'definitions') -%}
        {%- set built_as = none -%}
        {%- if table is not none -%}
            {%- set query -%}
                select max(definition) from {{ bookkeeping('definitions') }} where model = '{{ model.name }}'
            {%- endset -%}
            {%- set built_as = run_query(query).rows[0][0] -%}
        {%- endif -%}
        {%- do model.update({'is_redefined': built_as != definition()}) -%}
    {%- endif -%}
    {{- return(model.is_redefined) -}}
{%- endmacro -%}

{#- A hash of the SQL of this model and of all it is made from, and of the variables they use. -#}
{%- macro definition() -%}
    {%- set sql = {} -%}
    {%- do collect_sql(model.unique_id, sql) -%}
    {%- set variables = ['session_gap_minutes', 'retention_days', 'signed_up_event', 'signed_in_event', 'ordered_event'] -%}
    {%- set parts = [] -%}
    {%- for name in variables -%}
        {%- do parts.append(name ~ '=' ~ var(name)) -%}
    {%- endfor -%}
    {%- for node in sql | sort -%}
        {%- do parts.append(sql[node]) -%}
    {%- endfor -%}
    {{- return(local_md5(parts | join('\n'))) -}}
{%- endmacro -%}

{%- macro collect_sql(node_id, found) -%}
    {%- set node = graph.nodes.get(node_id) -%}
    {%- if node and node_id not in found -%}
        {%- do found.update({node_id: node.raw_code}) -%}
        {%- for parent in node.depends_on.nodes -%}
            {%- do collect_sql(parent, found) -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}

{#- Post-hook of every model: by which definition a growing one was built. -#}
{%- macro remember_definition() -%}
    {%- if execute and model.config.materialized == 'incremental' %}
    {{ make_bookkeeping() }}
    delete from {{ bookkeeping('definitions') }} where model = '{{ model.name }}';
    insert into {{ bookkeeping('definitions') }} values ('{{ model.name }}', '{{ definition() }}');
    {%- endif -%}
{%- endmacro -%}
