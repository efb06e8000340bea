"""What real time is for, with the real processes: an unmodified client sends, and everything follows by itself."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from segment.analytics.client import Client
from standardwebhooks.webhooks import Webhook

from orchestration.supervisor import read_state
from segue.clock import system_time
from segue.keys import READ, create_key
from segue.serving import Endpoint, add_endpoint
from segue.settings import PROJECT_ROOT, Settings
from segue.store import open_store

SECRET = "whsec_YSBzZWNyZXQgdGhhdCBvbmx5IHRlc3RzIGV2ZXIgc2Vl"


class Receiver:
    """Somebody's server: takes what is signed as it should be."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []

    @contextmanager
    def listening(self) -> Iterator[str]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(Webhook(SECRET).verify(body, dict(self.headers)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook"
        server.shutdown()


class Live:
    """A home in which real time runs."""

    def __init__(self, settings: Settings, variables: dict[str, str], receiver: Receiver) -> None:
        self.settings, self.variables, self.receiver = settings, variables, receiver
        self.services = read_state(settings)
        self.client = Client(create_key(settings, "shop", as_of=system_time()), host=self.services["collector"].url)
        token = create_key(settings, "app", as_of=system_time(), kind=READ)
        self.api = httpx.Client(base_url=self.services["api"].url, headers={"Authorization": f"Bearer {token}"})

    def segments(self, user: str) -> set[str]:
        answer = self.api.get(f"/v1/people/{user}/segments")
        return set(answer.json()["segments"]) if answer.status_code == 200 else set()

    def segue(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(Path(sys.executable).with_name("segue")), *arguments],
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def write(self, name: str, sql: str) -> None:
        """What an analyst does in an editor."""
        (self.settings.dbt_project / "models" / "segments" / f"{name}.sql").write_text(sql)

    def engine(self) -> dict[str, Any]:
        return dict(open_store(self.settings).status().engine)


def wait_for(condition: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    root = tmp_path_factory.mktemp("live")
    shutil.copytree(PROJECT_ROOT / "dbt_project", root / "dbt")
    settings = Settings(home=root / "home", dbt_project=root / "dbt", _env_file=None)  # type: ignore[call-arg]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEGUE_")}
    variables = kept | {
        "SEGUE_HOME": str(settings.home),
        "SEGUE_DBT_PROJECT": str(settings.dbt_project),
        "SEGUE_HISTORY_START": (system_time() - timedelta(days=2)).date().isoformat(),
        "SEGUE_HISTORY_DAYS": "1",
        "SEGUE_LANDING_SECONDS": "0.5",
        "SEGUE_COLLECTOR_PORT": "0",
        "SEGUE_API_PORT": "0",
        "SEGUE_WEBHOOK_ALLOW_PRIVATE": "true",
        "DAGSTER_HOME": str(settings.home / "dagster"),
        "PYTHONWARNINGS": "ignore",
    }
    receiver = Receiver()
    with receiver.listening() as url:
        add_endpoint(settings, Endpoint(name="crm", url=url, created_at=system_time(), secret=SECRET))
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestration.services"],
            env=variables,
            cwd=PROJECT_ROOT,
            stderr=(root / "said").open("w"),
        )
        family: list[psutil.Process] = []
        try:
            wait_for(lambda: (s := read_state(settings)) and all(x.is_up for x in s.values()))
            wait_for(lambda: open_store(settings).status().engine.get("to_evaluate") == 0)
            family = psutil.Process(process.pid).children(recursive=True)
            yield Live(settings, variables, receiver)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                for one in family:
                    if one.is_running():
                        one.kill()


def test_an_event_changes_segments_reaches_the_subscriber_and_the_warehouse_agrees(live: Live) -> None:
    live.client.identify("ada", {"email": "ada@example.com"})
    live.client.track("ada", "Premium Feature Used", {"feature": "export"})
    live.client.flush()
    wait_for(lambda: "feature_used_recently" in live.segments("ada"))
    assert {"active_last_24h", "weekly_sessions_low"} <= live.segments("ada@example.com")
    wait_for(lambda: any("feature_used_recently" in json.dumps(one) for one in live.receiver.got))
    assert {one["type"] for one in live.receiver.got} == {"segment.entered"}

    # Before the warehouse knows anything of it, that is no fault.
    early = live.segue("realtime", "audit", "--format", "json")
    assert early.returncode == 0, early.stderr
    assert {row["cause"] for row in json.loads(early.stdout)} == {"not_landed"}

    wait_for(lambda: list((live.settings.landing_zone / "collected").rglob("*.ndjson.zst")))
    refreshed = live.segue("refresh")
    assert refreshed.returncode == 0, refreshed.stderr
    late = live.segue("realtime", "audit", "--format", "json")
    assert (late.returncode, json.loads(late.stdout)) == (0, []), late.stderr
    found = live.segue("sql", "select segment from segments.memberships where exited_at is null", "--format", "json")
    assert {row["segment"] for row in json.loads(found.stdout)} == live.segments("ada")


def test_an_edited_definition_is_taken_up_and_a_broken_one_is_not(live: Live) -> None:
    pid = read_state(live.settings)["engine"].pid
    live.client.track("bob", "Signed In", {"method": "email"})
    live.client.flush()
    wait_for(lambda: live.segments("bob"))
    rule = "select person_id, 'signed in' as reason from {{{{ ref('person_features') }}}} where {}\n"
    live.write("signed_in", rule.format("last_signed_in_at is not null"))
    # Filled in for everyone, those from whom nothing comes too.
    wait_for(lambda: "signed_in" in live.segments("bob"))
    live.write("signed_in", rule.format("no_such_column is null"))
    wait_for(lambda: "no_such_column" in live.engine()["definition_error"])
    assert "signed_in" in live.segments("bob")
    # It is not frozen: the last good definition goes on.
    live.client.track("eve", "Signed In", {"method": "email"})
    live.client.flush()
    wait_for(lambda: "signed_in" in live.segments("eve"))
    assert "signed_in" in live.engine()["definitions"]
    live.write("signed_in", rule.format("last_signed_in_at is null"))
    write_top_spender(live)  # at once: each edit costs a compilation
    wait_for(lambda: "signed_in" not in live.segments("bob"))
    wait_for(lambda: live.engine()["definition_error"] == "")
    assert read_state(live.settings)["engine"].pid == pid
    log = (live.settings.home / "realtime" / "engine.log").read_text()
    assert "new definitions: everyone is evaluated anew" in log
    assert "signed_in is broken, its last good definition stays" in log


def write_top_spender(live: Live) -> None:
    live.write("top_spender", "select person_id from {{ ref('person_features') }} order by order_count desc limit 1\n")
    meta = "models: [{name: top_spender, config: {meta: {segue: {realtime: true}}}}]\n"
    (live.settings.dbt_project / "models" / "segments" / "top_spender.yml").write_text(meta)


def test_a_definition_that_looks_at_everyone_is_refused_by_name(live: Live) -> None:
    write_top_spender(live)
    checked = live.segue("check")
    assert checked.returncode == 1
    said = " ".join((checked.stdout + checked.stderr).split())
    assert "top_spender.sql" in said
    assert "limit 1" in said.lower()
    assert "scope: population" in said
    wait_for(lambda: "top_spender" in live.engine()["left_out"])
    assert "top_spender" not in live.engine()["definitions"]
