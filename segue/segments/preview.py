"""Who would be in a segment as of any time, by its SQL as it stands. Nothing is written."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from segue.errors import DefinitionError
from segue.models import Evaluator, Model, Project, Stitch
from segue.segments.read import no_segment
from segue.warehouse import Warehouse


def preview(
    warehouse: Warehouse,
    project: Project,
    name: str,
    *,
    as_of: datetime,
    limit: int | None = None,
    stitcher: Stitch | None = None,
) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    """What the model of a segment answers from what had been received by `as_of`: its columns, and its rows.

    A person who fits several segments of an exclusive group is in the answer of each.

    Args:
        limit: at most so many rows, the first by their first column.
        stitcher: makes the identity tables as of a time; None: `segue.identity`.

    Raises:
        BadInputError: when there is no such segment; names the closest ones.
        DefinitionError: when its SQL does not work.
    """
    from segue.identity import stitcher_of  # loads scipy

    model = _segment(project, name)
    with warehouse.read() as source:
        past = Evaluator(
            project,
            source,
            until=as_of,
            stitch=stitcher or stitcher_of(source, project.rules),
            targets=[name],
            model_seconds=warehouse.settings.model_seconds,
        )
    with past:
        evaluation = past.at(as_of)
        if name in evaluation.failed:
            raise DefinitionError(
                f"{model.path}: {evaluation.failed[name]}", fix="mend the SQL; `segue check` says more"
            )
        answer = evaluation.con.execute(f"select * from {model.quoted} order by 1 limit $1", [limit])
        return [column[0] for column in answer.description or ()], answer.fetchall()


def _segment(project: Project, name: str) -> Model:
    known = {model.name: model for model in project.segments}
    if name in known:
        return known[name]
    for broken in project.broken:
        if broken.name == name:
            raise DefinitionError(broken.reason, fix=broken.fix)
    raise no_segment(name, known)
