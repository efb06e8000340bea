{#- A model that grows holds rows that were made by its definition of then. So it is built anew when its SQL, that of
    a model it is made from, a variable or a macro has changed since: overrides dbt's own answer, which only knows the
    flag. Which macros a model uses is not known here, so that of all of them the text counts, and every variable that
    any of them reads. -#}
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
        {%- set same = 0 -%}
        {%- if table is not none -%}
            {%- set query -%}
                select count(*) from {{ bookkeeping('definitions') }}
                where model = '{{ model.name }}' and definition = {{ definition() }}
            {%- endset -%}
            {%- set same = run_query(query).rows[0][0] -%}
        {%- endif -%}
        {%- do model.update({'is_redefined': same == 0}) -%}
    {%- endif -%}
    {{- return(model.is_redefined) -}}
{%- endmacro -%}

{#- SQL of a text that says how this model is defined: by its SQL and that of all it is made from, by the variables
    they use, by the macros and theirs. -#}
{%- macro definition() -%}
    {%- set sql = {} -%}
    {%- do collect_sql(model.unique_id, sql) -%}
    {%- set variables = [] -%}
    {%- for node in sql -%}
        {%- do variables.extend(modules.re.findall("var\\(['\"](\\w+)['\"]", sql[node])) -%}
    {%- endfor -%}
    {%- set parts = [] -%}
    {%- for name in variables | unique | sort -%}
        {%- do parts.append(name ~ '=' ~ var(name, none)) -%}
    {%- endfor -%}
    {%- for node in sql | sort -%}
        {%- do parts.append(sql[node]) -%}
    {%- endfor -%}
    {{- return("concat('" ~ local_md5(parts | join('\n')) ~ "', " ~ adapter.dispatch('macros_version', 'segue')() ~ ")") -}}
{%- endmacro -%}

{#- A hash of the text of all macros and of the variables they read, set by whoever starts dbt. -#}
{%- macro default__macros_version() -%}
    coalesce(getvariable('macros_version'), '')
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
    insert into {{ bookkeeping('definitions') }} values ('{{ model.name }}', {{ definition() }});
    {%- endif -%}
{%- endmacro -%}
