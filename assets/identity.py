"""Who is who: identifiers become people."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from orchestration import present
from orchestration.automation import REFRESH, WRITER
from orchestration.keys import PROBABLE
from orchestration.project import PROJECT
from orchestration.resources import Clock, Turn, Warehouse
from segue.identity import REASONS, stitch
from segue.identity.probable import curve_chart, known_browsers, learn, signals, weights_chart, write_probable
from segue.warehouse import row_count

_COMMON: dict[str, Any] = {
    "group_name": "identity",
    "kinds": {"python", "duckdb"},
    "owners": ["team:data"],
    "automation_condition": REFRESH,
}
_DEPS = [["staging", "stg_identifiers"], ["staging", "stg_links"]]

#: A larger share of refused links says that something is wrong with an identifier.
_MANY_REFUSED = 0.2


@dg.multi_asset(
    name="identity",
    specs=[
        dg.AssetSpec(
            ["identity", "identifiers"],
            deps=_DEPS,
            description="One row per identifier, with the person it belongs to.",
            **_COMMON,
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
            description="Links that a guard refused, and values that are no identifiers, with the reason.",
            **_COMMON,
        ),
        dg.AssetSpec(
            ["identity", "aliases"],
            deps=_DEPS,
            description="Every id that is nobody's any more, and who it has become.",
            **_COMMON,
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "no_giant_person",
            asset=["identity", "identifiers"],
            blocking=True,
            description="Nobody has more identifiers than `largest_person` allows, unless merged by hand.",
        ),
        dg.AssetCheckSpec(
            "few_refused_links", asset=["identity", "refused"], description="Few links are refused by the guards."
        ),
    ],
    pool=WRITER,
)
def identifiers(
    context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn
) -> Iterator[dg.MaterializeResult]:
    """Links identifiers that belong together; a person keeps the oldest id."""
    as_of = clock.as_of(context)
    rules = PROJECT.rules
    with warehouse.write("identity", as_of=as_of) as con:
        report = stitch(con, as_of=as_of, rules=rules)
    with warehouse.read() as con:
        counts = {
            table: row_count(con, f"identity.{table}") for table in ("identifiers", "merges", "refused", "aliases")
        }
        link_count = int(con.execute("select count(*) from staging.stg_links").fetchall()[0][0])
        by_reason = con.execute(
            "select reason, count(*), sum(link_count), max(seen_at) from identity.refused"
            " group by reason order by 2 desc, reason"
        ).fetchall()
    facts = present.report(report)
    yield dg.MaterializeResult(
        asset_key=["identity", "identifiers"],
        metadata={"dagster/row_count": counts["identifiers"], **facts},
        check_results=[
            dg.AssetCheckResult(
                check_name="no_giant_person",
                asset_key=dg.AssetKey(["identity", "identifiers"]),
                passed=report.largest <= rules.largest_person,
                description=f"one person has {report.largest} identifiers"
                if report.largest > rules.largest_person
                else None,
                metadata={"largest": report.largest},
            )
        ],
    )
    yield dg.MaterializeResult(
        asset_key=["identity", "merges"],
        metadata={"dagster/row_count": counts["merges"], "merged now": report.merge_count},
    )
    yield dg.MaterializeResult(
        asset_key=["identity", "aliases"],
        metadata={"dagster/row_count": counts["aliases"], "new now": report.alias_count},
    )
    share = counts["refused"] / link_count if link_count else 0.0
    reasons = present.table(
        ["reason", "what it means", "links", "seen", "last seen"],
        [(reason, REASONS[reason], count, seen, last) for reason, count, seen, last in by_reason],
    )
    yield dg.MaterializeResult(
        asset_key=["identity", "refused"],
        metadata={"dagster/row_count": counts["refused"], "refused now": report.refused_count, "reasons": reasons},
        check_results=[
            dg.AssetCheckResult(
                check_name="few_refused_links",
                asset_key=dg.AssetKey(["identity", "refused"]),
                passed=share <= _MANY_REFUSED,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{counts['refused']:,} of {link_count:,} links are refused"
                if share > _MANY_REFUSED
                else None,
                metadata={"share": share, **{reason: count for reason, count, *_ in by_reason}},
            )
        ],
    )


@dg.asset(
    key=PROBABLE,
    deps=[["identity", "identifiers"], ["raw", "events"]],
    group_name="identity",
    kinds={"python", "splink"},
    owners=["team:data"],
    pool=WRITER,
    description="Browsers that may be one person by habit, with a score. For reporting: they join nobody. "
    "Made when somebody asks for it, as a model is trained anew each time.",
)
def probable_links(
    context: dg.AssetExecutionContext, warehouse: Warehouse, clock: Clock, turn: Turn
) -> dg.MaterializeResult:
    """Trains on the browsers as they are, and keeps the links above the threshold that the labels chose."""
    as_of = clock.as_of(context)
    with warehouse.read(as_of=as_of) as con:
        browsers, people = signals(con, warehouse.settings.dbt_project), known_browsers(con)
    found = learn(browsers, people)
    with warehouse.write("probable links", as_of=as_of) as con:
        count = write_probable(con, found, as_of=as_of)
    pictures = {
        "match weights": present.picture(weights_chart(found.report), title="match weights"),
        "precision and recall": present.picture(curve_chart(found.report), title="precision and recall"),
    }
    facts = present.report(found.report, leave_out=("curve", "weights"))
    return dg.MaterializeResult(
        metadata={"dagster/row_count": count, **facts, **(pictures if found.report.weights else {})}
    )
