"""Groups that nobody defined: found in how people behave."""
import dagster as dg
from orchestration.automation import REFRESH, WRITER
from orchestration.resources import Clock, Turn, Warehouse


@dg.multi_asset(
    name="clusters",
    specs=[
        dg.AssetSpec(["clusters", "assignments"], deps=[["marts", "person_features"]], group_name="clusters", automation_condition=REFRESH, skippable=True),
        dg.AssetSpec(["clusters", "profiles"], deps=[["marts", "person_features"]], group_name="clusters", automation_condition=REFRESH),
    ],
    pool=WRITER,
)
def discovery(context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn):
    yield dg.MaterializeResult(asset_key=["clusters", "assignments"])
    yield dg.MaterializeResult(asset_key=["clusters", "profiles"])
