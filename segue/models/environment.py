"""What a dbt process must be told, whoever starts it."""

from datetime import datetime
from pathlib import Path

from segue.models.kpis import VARIABLE, kpi_models
from segue.settings import Settings


def dbt_environment(
    settings: Settings,
    *,
    as_of: datetime,
    window: tuple[datetime, datetime] | None = None,
    project: Path | None = None,
) -> dict[str, str]:
    """The variables for any dbt process on this installation; to be laid over the caller's own environment.

    Args:
        settings: which installation.
        as_of: the time dbt works with; becomes `getvariable('as_of')` in its sessions.
        window: first and last instant that a partitioned run rebuilds; becomes the session variables
            `window_start` and `window_end`.
        project: the dbt project that runs, when it is not the analysts' own but a published copy.
    """
    variables = {
        "SEGUE_HOME": str(settings.home),
        "SEGUE_CATALOG": settings.catalog,
        "SEGUE_DATA_PATH": settings.data_path,
        "SEGUE_MEMORY_LIMIT": settings.memory_limit,
        "SEGUE_MODEL_SECONDS": str(settings.model_seconds),
        "SEGUE_AS_OF": as_of.isoformat(),
        "SEGUE_DBT_CATALOG": settings.catalog_uri,
        "SEGUE_DBT_DATA": settings.data_uri,
        "DBT_TARGET_PATH": str(settings.dbt_home / "target"),
        "DBT_LOG_PATH": str(settings.dbt_home / "logs"),
        "DBT_PROFILES_DIR": str(settings.dbt_project),
        VARIABLE: " ".join(kpi_models(project or settings.dbt_project)),
    }
    if not settings.catalog_is_sqlite:
        variables["DBT_TARGET"] = "postgres"
    if window is not None:
        variables |= {"SEGUE_WINDOW_START": window[0].isoformat(), "SEGUE_WINDOW_END": window[1].isoformat()}
    return variables
