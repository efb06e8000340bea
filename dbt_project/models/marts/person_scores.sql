{{ config(pre_hook='{{ make_published() }}') }}

with people as (select * from {{ ref('person_features') }}),

churn as (select * from {{ ref('churn') }}),

premium_conversion as (select * from {{ ref('premium_conversion') }}),

next_purchase as (select * from {{ ref('next_purchase') }})

select
    people.person_id,
    case when churn.is_eligible then {{ propensity_score('churn', 'people') }} end as churn_risk,
    case when premium_conversion.is_eligible then {{ propensity_score('premium_conversion', 'people') }} end
        as premium_probability,
    case when next_purchase.is_eligible then {{ propensity_score('next_purchase', 'people') }} end
        as purchase_probability
from people
inner join churn on people.person_id = churn.person_id
inner join premium_conversion on people.person_id = premium_conversion.person_id
inner join next_purchase on people.person_id = next_purchase.person_id
