"""An edited dbt project is compiled and loaded; automation then rebuilds what the edit changed, and nothing else."""

from urllib.parse import urlsplit

import dagster as dg
from dagster_graphql import DagsterGraphQLClient, DagsterGraphQLClientError
from dagster_graphql.client.utils import ReloadRepositoryLocationStatus

from orchestration.project import PROJECT
from segue.errors import DefinitionError
from segue.models import fingerprint_of, prepare
from segue.settings import load_settings

LOCATION = "segue"


@dg.sensor(
    name="edited_sql",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Compiles an edited dbt project and loads it; automation rebuilds what the edit changed.",
)
def edited_sql(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """The graph knows which state it was loaded from, so nothing is missed while we are down."""
    settings = load_settings()
    try:
        wanted = fingerprint_of(settings)
        if (reason := why_not(wanted, loaded=PROJECT.fingerprint, asked=context.cursor)) is not None:
            return dg.SkipReason(reason)
        # Compiled here, so that loading it takes a moment.
        broken = prepare(settings).broken
    except DefinitionError as error:
        return dg.SkipReason(f"the edited project cannot be used, the one before stays: {error}")
    url = settings.dagster_api_url or settings.dagster_url
    try:
        reload(url)
    except DagsterGraphQLClientError as error:
        return dg.SkipReason(f"edited; the UI at {url} did not reload it ({error}). Trying again")
    context.update_cursor(wanted)
    note = f"; not usable: {', '.join(b.name for b in broken)}" if broken else ""
    return dg.SkipReason(f"loaded the edited project {wanted}{note}")


def why_not(wanted: str, *, loaded: str, asked: str | None) -> str | None:
    """Why there is nothing to do; None when the project must be loaded.

    Args:
        wanted: fingerprint of the analysts' files.
        loaded: fingerprint of the state on the graph.
        asked: the last fingerprint whose loading succeeded.
    """
    if wanted == loaded:
        return "no edit"
    if wanted == asked:
        return "the edited project is being loaded"
    return None


def reload(url: str) -> None:
    """Load the code location anew.

    Raises:
        DagsterGraphQLClientError: when the UI cannot be reached, or the location does not load.
    """
    address = urlsplit(url)
    client = DagsterGraphQLClient(
        address.hostname or "127.0.0.1", port_number=address.port, use_https=address.scheme == "https", timeout=45
    )
    answer = client.reload_repository_location(LOCATION)
    if answer.status is not ReloadRepositoryLocationStatus.SUCCESS:
        raise DagsterGraphQLClientError(answer.message or "the code location does not load")
