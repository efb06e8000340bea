"""Who is who: identifiers become people."""

from collections.abc import Iterator

import dagster as dg

from orchestration import present
from orchestration.automation import REFRESH, WRITER
from orchestration.resources import Clock, Turn, Warehouse
from segue.identity import stitch

_COMMON = {"group_name": "identity", "kinds": {"python", "duckdb"}, "owners": ["team:data"], "automation_condition": REFRESH}
_DEPS = [["staging", "stg_identifiers"], ["staging", "stg_links"]]

#: More identifiers than this belong to a machine or a mistake, not to a person.
_GIANT = 50


@dg.multi_asset(
    name="identity",
    specs=[
        dg.AssetSpec(
            ["identity", "identifiers"], deps=_DEPS, description="One row per identifier, with the person it belongs to.", **_COMMON
        ),
        dg.AssetSpec(
            ["identity", "merges"],
            deps=_DEPS,
            description="Each time two people turned out to be one: which id went, which one stayed, and why.",
            **_COMMON,
        ),
        dg.AssetSpec(
            ["identity", "refused"],
            deps=_DEPS,
            description="Links that a guard refused, with the reason: a shared device, a blocked value, too many values.",
            **_COMMON,
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "no_giant_person",
            asset=["identity", "identifiers"],
            blocking=True,
            description=f"Nobody has more than {_GIANT} identifiers.",
        ),
        dg.AssetCheckSpec(
            "few_refused_links", asset=["identity", "refused"], description="Refused links are few against people."
        ),
    ],
    pool=WRITER,
)
def identifiers(
    context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn
) -> Iterator[dg.MaterializeResult]:
    """Links identifiers that belong together; a person keeps the oldest id."""
    as_of = clock.as_of(context)
    with warehouse.write("identity", as_of=as_of) as con:
        report = stitch(con, as_of=as_of)
    for n in ("identifiers","merges","refused"): yield dg.MaterializeResult(asset_key=["identity",n])
