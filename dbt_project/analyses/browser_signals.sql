-- What a browser is like, for the probabilistic part of identity: one row per anonymous_id, from messages whose
-- consent to analytics was given in words. A field of any other message is not read. Segue sets the variable
-- analytics_categories to what dbt_project.yml says, in lower case; without it, nobody has consented.
-- segue/identity/probable.py says how the columns are compared; leave one out, and it is not.
with categories as (select unnest(getvariable('analytics_categories')) as category),

messages as (
    select *, lower(json_extract_string(context, '$.consent.categoryPreferences')) as preferences
    from raw.events
    where received_at <= getvariable('as_of')
),

consented as (
    select
        nullif(trim(anonymous_id), '') as anonymous_id,
        json_extract_string(
            context,
            [
                '$.device.model',
                '$.os.version',
                '$.timezone',
                '$.locale',
                '$.ip',
                '$.location.city',
                '$.location.country'
            ]
        ) as texts,
        extract(hour from timestamp) as hour
    from messages
    where
        preferences is not null
        and exists (
            select 1 from categories
            where
                contains(preferences, '"' || category || '":true')
                or contains(preferences, '"' || category || '":"true"')
        )
        and not exists (
            select 1 from categories
            where
                contains(preferences, '"' || category || '":false')
                or contains(preferences, '"' || category || '":"false"')
        )
)

select
    anonymous_id,
    mode(nullif(trim(concat_ws(' ', texts[1], texts[2])), '')) as model,
    mode(texts[3]) as timezone,
    mode(texts[4]) as locale,
    -- Coarse: the last number of the address is left out.
    list_sort(list_distinct(list(regexp_replace(texts[5], '[.:][^.:]*$', '')))) as networks,
    mode(coalesce(texts[6], texts[7])) as place,
    -- The mean direction of the hours on the clock's face, so that 23 and 1 are near each other.
    cast((atan2(avg(sin(hour * pi() / 12)), avg(cos(hour * pi() / 12))) * 12 / pi() + 24) % 24 as integer) as hour,
    count(*) as event_count
from consented
where anonymous_id is not null
group by anonymous_id
