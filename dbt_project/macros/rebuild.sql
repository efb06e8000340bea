{#- How models that keep a person's past (sessions, days) follow late events and changed identities.

    int_touched_people finds whose past changed since it last ran, and from when, and puts these people into a queue
    for each model that keeps pasts. Such a model replaces the past of the people in its queue from that moment on and
    empties the queue, in one transaction. So a run that died half-way, or a model that was run by itself, loses
    nothing: what was not replaced is still in the queue. The queue, and what int_touched_people has read, lie in
    tables that are not models, since they hold what was done and not the answer to a query. -#}

{%- macro models_that_keep_pasts() -%}
    {{- return(['sessions', 'int_person_days']) -}}
{%- endmacro -%}

{#- A bookkeeping table: rebuild_queue, read_events, read_identifiers or definitions. -#}
{%- macro bookkeeping(name) -%}
    {{- return(target.database ~ '.intermediate.' ~ name) -}}
{%- endmacro -%}

{%- macro make_bookkeeping() -%}
    create schema if not exists {{ target.database }}.intermediate;
    create table if not exists {{ bookkeeping('rebuild_queue') }} (
        model varchar, person_id varchar, rebuild_from timestamp
    );
    create table if not exists {{ bookkeeping('read_events') }} (load_id bigint, received_at timestamp);
    create table if not exists {{ bookkeeping('read_identifiers') }} (
        identifier_type varchar, identifier_value varchar, person_id varchar
    );
    create table if not exists {{ bookkeeping('definitions') }} (model varchar, definition varchar);
{%- endmacro -%}

{#- Pre-hook of int_touched_people, whose rows are those of the last run. -#}
{%- macro before_touched_people() -%}
    {{ make_bookkeeping() }}
    {%- if is_incremental() %}
    delete from {{ this }};
    {%- endif -%}
{%- endmacro -%}

{#- Post-hook of int_touched_people: fill the queues, and remember what was read. -#}
{%- macro after_touched_people() -%}
    {%- for name in models_that_keep_pasts() %}
    insert into {{ bookkeeping('rebuild_queue') }}
    select '{{ name }}', person_id, rebuild_from
    from {{ this }}
    {%- if not is_incremental() %}
    union all
    -- People whom identity may no longer know: nothing shall remain of their past.
    select distinct '{{ name }}', person_id, timestamp '1900-01-01 00:00:00'
    from {{ bookkeeping('read_identifiers') }}
    {%- endif %};
    {%- endfor %}
    delete from {{ bookkeeping('read_events') }};
    insert into {{ bookkeeping('read_events') }}
    select max(load_id), max(received_at) from {{ ref('stg_events') }};
    create or replace temp table moved_identifiers as
    select identifier_type, identifier_value, now.person_id
    from {{ source('identity', 'identifiers') }} as now
    full outer join {{ bookkeeping('read_identifiers') }} as earlier using (identifier_type, identifier_value)
    where now.person_id is distinct from earlier.person_id;
    delete from {{ bookkeeping('read_identifiers') }}
    where (identifier_type, identifier_value) in (select identifier_type, identifier_value from moved_identifiers);
    insert into {{ bookkeeping('read_identifiers') }}
    select identifier_type, identifier_value, person_id from moved_identifiers where person_id is not null;
{%- endmacro -%}

{#- The query that says whose past in this model is replaced, from when.
      begun_at: the column that says when a row began; `date` for rows of whole days
      reaches_to, gap: a row that began before the change and reached to within the gap of it is replaced too -#}
{%- macro people_to_rebuild(begun_at, reaches_to=none, gap=none) -%}
    {%- if reaches_to %}
    select queue.person_id, least(min(queue.rebuild_from), min(kept.{{ begun_at }})) as rebuild_from
    {%- elif begun_at == 'date' %}
    select queue.person_id, cast(cast(min(queue.rebuild_from) as date) as timestamp) as rebuild_from
    {%- else %}
    select queue.person_id, min(queue.rebuild_from) as rebuild_from
    {%- endif %}
    from {{ bookkeeping('rebuild_queue') }} as queue
    {%- if reaches_to %}
    left join {{ this }} as kept
        on queue.person_id = kept.person_id
        and kept.{{ reaches_to }} >= queue.rebuild_from - {{ gap }}
        and kept.{{ begun_at }} < queue.rebuild_from
    {%- endif %}
    where queue.model = '{{ this.identifier }}'
    group by queue.person_id
{%- endmacro -%}

{#- Pre-hook: puts the answer into the temporary table rebuilt_people, and deletes these pasts. -#}
{%- macro forget_pasts(begun_at, reaches_to=none, gap=none) -%}
    {{ make_bookkeeping() }}
    {%- if is_incremental() %}
    create or replace temp table rebuilt_people as {{ people_to_rebuild(begun_at, reaches_to, gap) }};
    delete from {{ this }}
    where {{ not_before(begun_at, rebuilt_from(begun_at, reaches_to, gap)) }}
    and exists (
        select 1 from rebuilt_people
        where rebuilt_people.person_id = {{ this.identifier }}.person_id
        and {{ this.identifier }}.{{ begun_at }} >= rebuilt_people.rebuild_from
    );
    {%- endif -%}
{%- endmacro -%}

{#- Whether an event belongs to a past that is being replaced; always, when everything is built anew. -#}
{%- macro is_rebuilt(events, begun_at, reaches_to=none, gap=none) -%}
    {{ not_before(events ~ '.occurred_at', rebuilt_from(begun_at, reaches_to, gap)) }}
    {%- if is_incremental() %}
        and exists (
            select 1 from rebuilt_people
            where rebuilt_people.person_id = {{ events }}.person_id
            and {{ events }}.occurred_at >= rebuilt_people.rebuild_from
        )
    {%- endif -%}
{%- endmacro -%}

{#- Post-hook: the queue is worked off. -#}
{%- macro pasts_are_rebuilt() -%}
    delete from {{ bookkeeping('rebuild_queue') }} where model = '{{ this.identifier }}';
{%- endmacro -%}

{#- The earliest moment from which anybody is rebuilt, as text; none in a full refresh, or when nobody is. A literal,
    unlike a join, lets files be skipped. -#}
{%- macro rebuilt_from(begun_at, reaches_to=none, gap=none) -%}
    {%- if execute and is_incremental() -%}
        {%- set query -%}
            select cast(min(rebuild_from) as varchar)
            from ({{ people_to_rebuild(begun_at, reaches_to, gap) }}) as people
        {%- endset -%}
        {{- return(run_query(query).rows[0][0]) -}}
    {%- endif -%}
    {{- return(none) -}}
{%- endmacro -%}
