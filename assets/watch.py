import dagster as dg
from orchestration.automation import REFRESH_WITH_WHAT_IS_THERE, WRITER
from orchestration.resources import Clock, Turn, Warehouse

@dg.asset(key=["watch", "anomalies"], deps=[["kpis", "daily"]], group_name="watch", automation_condition=REFRESH_WITH_WHAT_IS_THERE, pool=WRITER)
def anomalies(context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn) -> dg.MaterializeResult:
    return dg.MaterializeResult()
