{#- Identifiers as they are kept. The rules stand in the variable `identity` of dbt_project.yml. -#}

{#- The keyed hash of an e-mail address; 'blocked' for one that is nobody's. The key stays outside of SQL: Segue gives
    each session the function. -#}
{%- macro email_key(address) -%}
    case
        when {{ is_like_any('lower(trim(' ~ address ~ '))', blocked_values('email')) }} then 'blocked'
        when length({{ address }}) > {{ var('identity').longest_value }} then 'blocked'
        else segue_email({{ address }})
    end
{%- endmacro -%}

{#- E.164; null when it is no telephone number. -#}
{%- macro phone_number(text, country) -%}
    case
        when length({{ text }}) <= 40
            then segue_phone({{ text }}, coalesce({{ country }}, '{{ var("identity").default_country }}'))
    end
{%- endmacro -%}

{%- macro blocked_values(type) -%}
    {%- set identity = var('identity') -%}
    {{- return(identity.blocked + identity.types.get(type, {}).get('blocked', [])) -}}
{%- endmacro -%}

{%- macro is_like_any(text, patterns) -%}
    {%- set exact, like = [], [] -%}
    {%- for pattern in patterns -%}
        {%- do (like if '%' in pattern else exact).append("'" ~ pattern | replace("'", "''") ~ "'") -%}
    {%- endfor -%}
    ({{ text }} in ({{ exact | join(', ') or 'null' }})
    {%- for pattern in like %} or {{ text }} like {{ pattern }}{% endfor -%}
    )
{%- endmacro -%}

{#- Why a value is no identifier; null when it is one. -#}
{%- macro refusal(type, value) -%}
    {%- set identity = var('identity') -%}
    case
        when length({{ value }}) > {{ identity.longest_value }} then 'too_long'
        when {{ type }} = 'email' then case when {{ value }} = 'blocked' then 'blocked' end
        when {{ is_like_any('lower(' ~ value ~ ')', identity.blocked) }} then 'blocked'
        {%- for name, rule in identity.types.items() if name != 'email' and rule.get('blocked') %}
        when {{ type }} = '{{ name }}' and {{ is_like_any('lower(' ~ value ~ ')', rule.blocked) }} then 'blocked'
        {%- endfor %}
    end
{%- endmacro -%}

{#- The value if it is an identifier, else null. `type` is a name. -#}
{%- macro usable(type, value) -%}
    case when {{ refusal("'" ~ type ~ "'", value) }} is null then {{ value }} end
{%- endmacro -%}

{#- Of a value that is no identifier for its length, enough to recognise it. -#}
{%- macro kept_value() -%}
    case when refused_reason = 'too_long' then substr(identifier_value, 1, 60) else identifier_value end
{%- endmacro -%}

{#- Of several mentions, one that can be used counts: a shortened value may look like a whole one. -#}
{%- macro refused_if_all(reason) -%}
    case when count({{ reason }}) = count(*) then max({{ reason }}) end
{%- endmacro -%}

{#- Column of stg_events → type of identifier. -#}
{%- macro identifier_columns() -%}
    {{- return({
        'user_id': 'user_id',
        'anonymous_id': 'anonymous_id',
        'device_id': 'device_id',
        'advertising_id': 'advertising_id',
        'email_hash': 'email',
        'phone': 'phone',
    }) -}}
{%- endmacro -%}

{#- Every identifier of each event, one row each: identifier_type, identifier_value, occurred_at, received_at, load_id. -#}
{%- macro mentions_of(events) -%}
    {%- set of_event = 'occurred_at, received_at, load_id' -%}
    {%- set sent = [["'anonymous_id'", "case when event_type = 'alias' then previous_id end"]] -%}
    {%- for column, type in identifier_columns().items() -%}
        {%- do sent.append(["'" ~ type ~ "'", column]) -%}
    {%- endfor -%}
    select * from ({{ rows_of_each(events, ['identifier_type', 'identifier_value'], sent, of_event) }}) as sent
    where identifier_value is not null
    union all
    select external_type, external_value, {{ of_event }}
    from ({{ external_ids_of(events, of_event) }}) as external_ids
    where external_type is not null and external_value is not null
{%- endmacro -%}

{#- What context.externalIds says; a type that staging knows by name is normalised as that. -#}
{%- macro external_ids_of(events, of_event) -%}
    select
        external_type,
        case external_type
            when 'email' then {{ email_key('id') }}
            when 'phone' then {{ phone_number('id', 'null') }}
            else id
        end as external_value,
        {{ of_event }}
    from (
        select lower({{ json_text('external', 'type') }}) as external_type, {{ json_text('external', 'id') }} as id, {{ of_event }}
        from ({{ json_elements(events, 'external_ids', 'external', of_event) }})
    )
{%- endmacro -%}
