with sessions as (select * from {{ ref('sessions') }}),

days as (select * from {{ ref('int_person_days') }}),

visits as (
    select
        person_id,
        count(*) as session_count,
        sum(case when started_at > {{ as_of() }} - interval 7 day then 1 else 0 end) as session_count_7d,
        sum(case when started_at > {{ as_of() }} - interval 28 day then 1 else 0 end) as session_count_28d,
        sum(duration_seconds) as duration_seconds,
        sum(page_count) as page_count,
        count(platform) as platform_count,
        sum(case when platform in ('ios', 'android') then 1 else 0 end) as mobile_count,
        sum(case when extract(hour from started_at) >= 22 or extract(hour from started_at) < 6 then 1 else 0 end)
            as night_count,
        sum(case when {{ weekday('started_at') }} >= 6 then 1 else 0 end) as weekend_count,
        sum(
            case
                when
                    {{ weekday('started_at') }} < 6
                    and extract(hour from started_at) >= 9 and extract(hour from started_at) < 17
                    then 1
                else 0
            end
        ) as working_hours_count,
        count(distinct platform) as different_platform_count,
        max_by(platform, case when platform is not null then started_at end) as last_platform,
        min_by(channel, case when channel is not null then started_at end) as first_channel,
        max_by(country, case when country is not null then started_at end) as country
    from sessions
    group by person_id
),

actions as (
    select
        person_id,
        min(first_at) as first_seen_at,
        max(last_at) as last_seen_at,
        sum(event_count) as event_count,
        count(distinct date) as active_days,
        count(distinct case when last_at > {{ as_of() }} - interval 28 day then date end) as active_days_28d,
        count(distinct case when event_type = 'track' then event_name end) as action_count,
        sum(case when {{ is_recent_day() }} then event_count else 0 end) as event_count_28d,
        min(case when {{ is_event(var('signed_up_event')) }} then first_at end) as signed_up_at,
        max(case when {{ is_event(var('signed_in_event')) }} then last_at end) as last_signed_in_at,
        min(case when {{ is_event(var('onboarded_event')) }} then first_at end) as onboarded_at,
        min(case when {{ is_event(var('premium_event')) }} then first_at end) as first_premium_used_at,
        max(case when {{ is_event(var('premium_event')) }} then last_at end) as last_premium_used_at,
        sum(case when {{ is_event(var('premium_event')) }} then event_count else 0 end) as premium_use_count,
        sum(case when {{ is_event(var('premium_event')) }} and {{ is_recent_day() }} then event_count else 0 end)
            as premium_use_count_28d,
        max(case when {{ is_event(var('subscribed_event')) }} then last_at end) as subscribed_at,
        max(case when {{ is_event(var('unsubscribed_event')) }} then last_at end) as unsubscribed_at,
        sum(case when {{ is_event(var('searched_event')) }} then event_count else 0 end) as search_count,
        sum(case when {{ is_event(var('viewed_event')) }} then event_count else 0 end) as product_view_count,
        sum(case when {{ is_event(var('viewed_event')) }} and {{ is_recent_day() }} then event_count else 0 end)
            as product_view_count_28d,
        count(distinct category) as category_count,
        sum(case when {{ is_event(var('ordered_event')) }} then event_count else 0 end) as order_count,
        sum(case when {{ is_event(var('ordered_event')) }} and {{ is_recent_day() }} then event_count else 0 end)
            as order_count_28d,
        cast(sum(case when {{ is_event(var('ordered_event')) }} then revenue end) as double) as revenue,
        max(case when {{ is_event(var('ordered_event')) }} then last_at end) as last_ordered_at
    from days
    group by person_id
)

select
    actions.person_id,
    actions.first_seen_at,
    actions.last_seen_at,
    cast({{ seconds_between('actions.last_seen_at', as_of()) }} as double) / 3600 as hours_since_last_seen,
    cast({{ seconds_between('actions.first_seen_at', as_of()) }} as double) / 86400 as days_since_first_seen,
    -- Cadence: the mean silence between active days, and how the present silence compares with it.
    cast({{ seconds_between('actions.first_seen_at', 'actions.last_seen_at') }} as double) / 86400
    / nullif(actions.active_days - 1, 0) as average_gap_days,
    cast({{ seconds_between('actions.last_seen_at', as_of()) }} as double)
    * nullif(actions.active_days - 1, 0)
    / nullif(cast({{ seconds_between('actions.first_seen_at', 'actions.last_seen_at') }} as double), 0) as gap_ratio,
    actions.signed_up_at,
    actions.last_signed_in_at,
    actions.onboarded_at,
    actions.first_premium_used_at,
    actions.last_premium_used_at,
    actions.subscribed_at,
    actions.unsubscribed_at,
    coalesce(actions.subscribed_at > coalesce(actions.unsubscribed_at, timestamp '1900-01-01 00:00:00'), false)
        as is_subscribed,
    visits.session_count,
    cast(visits.session_count_7d as bigint) as session_count_7d,
    cast(visits.session_count_28d as bigint) as session_count_28d,
    cast(visits.duration_seconds as double) / visits.session_count as average_session_seconds,
    cast(visits.page_count as double) / visits.session_count as pages_per_session,
    cast(actions.event_count as bigint) as event_count,
    cast(actions.event_count_28d as bigint) as event_count_28d,
    actions.active_days,
    actions.active_days_28d,
    actions.action_count,
    visits.different_platform_count as platform_count,
    cast(visits.mobile_count as double) / nullif(visits.platform_count, 0) as mobile_share,
    cast(visits.night_count as double) / visits.session_count as night_share,
    cast(visits.weekend_count as double) / visits.session_count as weekend_share,
    cast(visits.working_hours_count as double) / visits.session_count as working_hours_share,
    cast(actions.premium_use_count as bigint) as premium_use_count,
    cast(actions.premium_use_count_28d as bigint) as premium_use_count_28d,
    cast(actions.search_count as bigint) as search_count,
    cast(actions.product_view_count as bigint) as product_view_count,
    cast(actions.product_view_count_28d as bigint) as product_view_count_28d,
    actions.category_count,
    cast(actions.order_count as bigint) as order_count,
    cast(actions.order_count_28d as bigint) as order_count_28d,
    actions.revenue,
    actions.revenue / nullif(actions.order_count, 0) as average_basket,
    actions.last_ordered_at,
    cast({{ seconds_between('actions.last_ordered_at', as_of()) }} as double) / 86400 as days_since_order,
    visits.last_platform,
    visits.first_channel,
    visits.country
from actions
inner join visits on actions.person_id = visits.person_id
