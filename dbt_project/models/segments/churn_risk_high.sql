with scores as (select * from {{ ref('person_scores') }})

select
    person_id,
    'churn risk of ' || cast(cast(round(100 * churn_risk) as bigint) as varchar) || ' %' as reason
from scores
where churn_risk >= {{ var('churn_risk_high_from') }}
