"""The pages' addresses. Reads the warehouse; says what a reader said of an incident."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import duckdb
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from segue.alerts import acknowledge, acknowledged, reasons, what_else
from segue.dashboard import clusters, frame, incident_pages, pages, read, scores
from segue.errors import BusyError, DefinitionError, SegueError
from segue.quality import data_incidents, explained, findings
from segue.settings import Settings
from segue.warehouse import Connection, Warehouse, has_table
from segue.watch import explain, incidents, load_calendar, name_of, registered_kpis
from segue.watch.cohorts import cohorts, funnel
from segue.watch.dismiss import dismiss_incident
from segue.watch.words import where_of

log = logging.getLogger(__name__)

_STYLE = Path(__file__).with_name("style.css")
_HEADERS = {
    # Nothing runs and nothing comes from elsewhere.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_KEPT_PAGES = 256
#: How long a button waits for another writer. A refresh writes for minutes, and each who waits has one of few threads.
_PATIENCE_SECONDS = 4.0
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#3b5bdb"/>'
    '<path d="M3 11 6 6l3 3 4-6" fill="none" stroke="#fff" stroke-width="1.6"/></svg>'
)


def make_app(settings: Settings, clock: Callable[[], datetime]) -> Starlette:
    """The dashboard of a home.

    It has no accounts: it listens on this machine only and shows sums only. Who puts a proxy before it puts the login
    there. Other hosts' names are refused, so that no page of elsewhere can read it through this browser.

    Args:
        clock: the system's time, for what a reader says of an incident.
    """
    site = _Site(settings, clock)
    hosts = ["127.0.0.1", "localhost", "[::1]", "testserver"]
    if settings.dashboard_url and (named := urlsplit(settings.dashboard_url).hostname):
        hosts.append(named)
    routes = [
        Route("/", site.overview),
        Route("/kpi/{kpi:path}", site.kpi),
        Route("/incidents", site.incidents),
        Route("/incident/{incident}", site.incident),
        Route("/incident/{incident}/{verb}", site.say, methods=["POST"]),
        Route("/segments", site.segments),
        Route("/clusters", site.clusters),
        Route("/scores", site.scores),
        Route("/retention", site.retention),
        Route("/funnel", site.funnel),
        Route("/health", site.health),
        Route("/healthz", site.alive),
        Route("/favicon.ico", lambda _: Response(_ICON, media_type="image/svg+xml")),
        Route("/style.css", lambda _: FileResponse(_STYLE, headers={"Cache-Control": "max-age=60"})),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers={404: site.missing, 500: site.broken},
    )


class _NotThereError(SegueError):
    """What the address names does not exist."""


class _Site:
    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._warehouse = Warehouse(settings)
        self._reading = read.Reading(self._warehouse)
        self._calendar = settings.dbt_project / "calendar.yml"
        self._draw = lru_cache(maxsize=_KEPT_PAGES)(self._drawn)
        self._con: Connection | None = None
        self._makers: Mapping[str, Callable[[Connection, Any], tuple[str, str]]] = {
            "/": self._overview,
            "/incidents": self._incidents,
            "/segments": self._segments,
            "/clusters": self._clusters,
            "/scores": self._scores,
            "/retention": self._retention,
            "/funnel": self._funnel,
            "/health": self._health,
            "kpi": self._kpi,
            "incident": self._incident,
        }

    # Plain functions: Starlette runs them beside its loop.
    def overview(self, request: Request) -> Response:
        return self._page("/", request)

    def kpi(self, request: Request) -> Response:
        return self._page("kpi", request, request.path_params["kpi"])

    def incidents(self, request: Request) -> Response:
        return self._page("/incidents", request)

    def incident(self, request: Request) -> Response:
        return self._page("incident", request, request.path_params["incident"])

    def segments(self, request: Request) -> Response:
        return self._page("/segments", request)

    def clusters(self, request: Request) -> Response:
        return self._page("/clusters", request)

    def scores(self, request: Request) -> Response:
        return self._page("/scores", request)

    def retention(self, request: Request) -> Response:
        return self._page("/retention", request)

    def funnel(self, request: Request) -> Response:
        return self._page("/funnel", request)

    def health(self, request: Request) -> Response:
        return self._page("/health", request)

    def alive(self, _request: Request) -> Response:
        """200 when the warehouse can be read."""
        try:
            with self._reading.page() as con:
                con.execute("select 1").fetchall()
        except (duckdb.Error, SegueError):
            return JSONResponse({"status": "the warehouse cannot be read"}, 503)
        return JSONResponse({"status": "ok"})

    def say(self, request: Request) -> Response:
        """What a reader says of an incident; only from a page of this site."""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
        if site != "same-origin" or (origin and urlsplit(origin).netloc != request.headers.get("host")):
            return self._problem(403, "Said from elsewhere", "Open the incident here and press the button again.")
        ident, verb = request.path_params["incident"], request.path_params["verb"]
        return self._answer(lambda: self._said(ident, verb))

    def missing(self, _request: Request, _error: Exception) -> Response:
        return self._problem(404, "There is no such page", 'Go to the <a href="/">KPIs</a>.')

    def broken(self, _request: Request, _error: Exception) -> Response:
        """Our own mistake; the server logs it."""
        return self._problem(
            500, "This page is broken", 'The log of the dashboard says why. Go to the <a href="/">KPIs</a>.'
        )

    def _said(self, ident: str, verb: str) -> Response:
        # Looked up without the lock: what is not there is answered at once, whoever writes.
        with self._reading.page() as con:
            is_kpi, is_data = bool(incidents(con, ids=[ident])), bool(data_incidents(con, ids=[ident]))
        if verb not in (("acknowledge", "dismiss") if is_kpi else ("acknowledge",) if is_data else ()):
            raise _NotThereError("There is no such incident")
        with self._warehouse.write(f"{verb} an incident", patience=_PATIENCE_SECONDS) as con:
            if verb == "acknowledge":
                acknowledge(con, ident, by="dashboard", as_of=self._clock())
            else:
                dismiss_incident(con, ident, by="dashboard", reason="said on the dashboard", as_of=self._clock())
        return RedirectResponse(f"/incident/{ident}", 303)

    def _page(self, maker: str, request: Request, *path: str) -> Response:
        wanted = tuple(sorted((k, v) for k, v in request.query_params.items() if len(v) <= 300))

        def make() -> Response:
            calendar = b""
            with suppress(OSError):  # without one there is none; one that cannot be read is told by whoever loads it
                calendar = self._calendar.read_bytes() if maker == "incident" else b""
            with self._reading.page() as con:
                rows = con.execute("select max(snapshot_id) from ducklake_snapshots('lake')").fetchall()
                self._con = con
                status, text = self._draw(rows[0][0], calendar, maker, path, wanted)
            return HTMLResponse(text, status, headers=_HEADERS)

        return self._answer(make)

    def _answer(self, make: Callable[[], Response]) -> Response:
        """What is made, or a page that says why not and what to do."""
        try:
            return make()
        except _NotThereError as error:
            return self._problem(
                404, error.message, 'Choose another one: <a href="/">KPIs</a>, <a href="/incidents">incidents</a>.'
            )
        except BusyError as error:
            return self._problem(
                503, f"Not noted: {error.message}", "Go back and press the button again when that has ended."
            )
        except DefinitionError as error:
            log.warning("a page could not be made: %s", error)
            return self._problem(500, error.message, escape(error.fix or ""))
        except (duckdb.Error, SegueError, OSError) as error:
            log.warning("a page could not be made: %s", error)
            return self._problem(
                503,
                "The warehouse cannot be read or written just now",
                "Try again; if it stays, <code>segue refresh</code> says why.",
            )

    def _drawn(
        self, _snapshot: int, _calendar: bytes, maker: str, path: tuple[str, ...], wanted: tuple[tuple[str, str], ...]
    ) -> tuple[int, str]:
        """A page of one state of the warehouse and the calendar; the same state and address give the same page."""
        con = self._con
        assert con is not None
        title, body = self._makers[maker](con, (path, dict(wanted)))
        text = frame.layout(title, body, path=maker, stamp=frame.stamp(read.freshness(con)))
        return 200, text

    def _problem(self, status: int, what: str, fix: str) -> Response:
        text = frame.layout("Not to be had", frame.empty(what, fix), path="", stamp="")
        return HTMLResponse(text, status, headers=_HEADERS)

    def _overview(self, con: Connection, wanted: Any) -> tuple[str, str]:
        slice_, days = wanted[1].get("slice", "all"), _days(wanted[1], 90)
        slices = read.slices(con)
        form = frame.filters("/", slices, slice_=slice_, days=days)
        shown = read.shown(con, slice_, days=days)
        if not shown:
            fix = (
                "<code>segue refresh</code> builds the KPIs from the events."
                if slices == ["all"]
                else "Choose another part."
            )
            return "KPIs", form + frame.empty("There is nothing to show for this choice yet", fix)
        going_on = [i for i in incidents(con) if i.status == "open" and i.severity != "low"]
        faults = [i for i in data_incidents(con) if i.status == "open"]
        query = urlencode({"slice": slice_, "days": days})
        who = "everybody" if slice_ == "all" else where_of(slice_)
        return f"KPIs of {who}", pages.overview(shown, registered_kpis(con), going_on, faults, form, query)

    def _kpi(self, con: Connection, wanted: Any) -> tuple[str, str]:
        name, slice_, days = wanted[0][0], wanted[1].get("slice", "all"), _days(wanted[1], 90)
        found = read.shown(con, slice_, days=days, kpi=name)
        if not found:
            raise _NotThereError(f"There is no KPI {name!r} for {where_of(slice_) or 'everybody'}")
        form = frame.filters(f"/kpi/{name}", read.slices(con), slice_=slice_, days=days)
        recent = sorted(found[0].anomalies, key=lambda a: a.first_date, reverse=True)[:6]
        why = {a.anomaly_id: explain(con, a) for a in recent}
        kpi = registered_kpis(con).get(name)
        return name_of(name, slice_, kpi.label if kpi else ""), pages.kpi_page(found[0], kpi, form, why)

    def _incidents(self, con: Connection, _wanted: Any) -> tuple[str, str]:
        return "Incidents", incident_pages.incidents_page(incidents(con), data_incidents(con))

    def _incident(self, con: Connection, wanted: Any) -> tuple[str, str]:
        found = incidents(con, ids=[wanted[0][0]])
        if not found:
            return self._data_incident(con, wanted[0][0])
        incident, lead = found[0], found[0].lead
        newest = read.freshness(con).last_day or lead.last_date
        days = min(max((newest - lead.first_date).days + 43, 57), 400)
        series = read.shown(con, lead.slice, days=days, kpi=lead.kpi)
        calendar = load_calendar(self._calendar)
        return name_of(lead.kpi, lead.slice, lead.label), incident_pages.incident_page(
            incident,
            series[0] if series else None,
            reasons(con, incident, calendar),
            explain(con, lead),
            is_acknowledged=incident.incident_id in acknowledged(con),
        )

    def _data_incident(self, con: Connection, ident: str) -> tuple[str, str]:
        found = data_incidents(con, ids=[ident])
        if not found:
            raise _NotThereError("There is no such incident")
        data = found[0]
        mine = [incident for incident, cause in explained(con).items() if cause == ident]
        calendar = load_calendar(self._calendar)
        return f"Data: {data.lead.subject}", incident_pages.data_incident_page(
            data,
            read.messages(con, data),
            incidents(con, ids=mine),
            what_else(con, first=data.first_date, last=data.last_date, calendar=calendar),
            is_acknowledged=ident in acknowledged(con),
        )

    def _segments(self, con: Connection, wanted: Any) -> tuple[str, str]:
        days = _days(wanted[1], 28)
        form = frame.filters("/segments", None, days=days)
        return "Segments", pages.segments_page(
            read.sizes(con, days=days), read.flows(con, days=days), read.overlap(con), form, days
        )

    def _clusters(self, con: Connection, wanted: Any) -> tuple[str, str]:
        days, said = _days(wanted[1], 90), wanted[1].get("method")
        method = said if said in clusters.METHODS else "kmeans"
        return "Clusters", clusters.page(clusters.read(con, method, days=days), method, days)

    def _scores(self, con: Connection, wanted: Any) -> tuple[str, str]:
        days = _days(wanted[1], 90)
        return "Scores", scores.page(scores.read(con, days=days), scores.next_changes(con), days)

    def _retention(self, con: Connection, wanted: Any) -> tuple[str, str]:
        which = "day" if wanted[1].get("by") == "day" else "week"
        options = "".join(f"<option{' selected' if o == which else ''}>{o}</option>" for o in ("week", "day"))
        form = (
            f'<form class="filters" method="get"><label>By<select name="by">{options}</select></label>'
            "<button>Show</button></form>"
        )
        return "Retention", pages.retention_page(cohorts(con, which), which, form)

    def _funnel(self, con: Connection, wanted: Any) -> tuple[str, str]:
        days = _days(wanted[1], 28)
        return "Funnel", pages.funnel_page(funnel(con, days=days), frame.filters("/funnel", None, days=days))

    def _health(self, con: Connection, _wanted: Any) -> tuple[str, str]:
        left_out = []
        if has_table(con, "watch", "series"):
            query = "select kpi, slice, status, detail from watch.series where status <> 'judged' order by 1, 2"
            labels = {name: kpi.label for name, kpi in registered_kpis(con).items()}
            left_out = [
                (name_of(k, s, labels.get(k, "")), status, detail)
                for k, s, status, detail in con.execute(query).fetchall()
            ]
        return "Data health", pages.health_page(findings(con), read.freshness(con), left_out)


def _days(wanted: Mapping[str, str], default: int) -> int:
    text = wanted.get("days", "")
    return min(max(int(text), 7), 800) if text.isdigit() and len(text) < 5 else default
