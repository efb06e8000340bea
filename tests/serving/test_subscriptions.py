"""Who is called: commands, the YAML of segments and the environment, as one list; and what the command line shows."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from segue.cli.webhooks import remove
from segue.clock import system_time
from segue.errors import BadInputError, ValkeyError
from segue.serving import Endpoint, Webhooks, add_endpoint, endpoints, subscriptions
from segue.serving.webhooks import EndpointChange
from segue.settings import PROJECT_ROOT, Settings, child_environment
from segue.store import Store, open_store
from segue.valkey import running
from tests.serving.conftest import entered
from tests.serving.receiver import SECRET, receiving
from tests.serving.test_webhooks import World


def made(name: str, **more) -> Endpoint:
    return Endpoint(name=name, url="https://example.com/hook", created_at=system_time(), secret=SECRET, **more)


def test_an_endpoint_gets_what_was_said_of_it_and_what_names_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_endpoint(settings, made("all"))
    add_endpoint(settings, made("some", segments=("a",)))
    add_endpoint(settings, made("named", named_only=True))
    monkeypatch.setenv("SEGUE_WEBHOOK_AD_TECH_URL", "https://ads.example/hook")
    monkeypatch.setenv("SEGUE_WEBHOOK_AD_TECH_SECRET", SECRET)
    found = {
        one.name: one for one in subscriptions(settings, {"all": ["c"], "some": ["b"], "ad-tech": ["d"], "x": ["d"]})
    }
    assert found["all"].wants("anything")
    assert found["some"].segments == {"a", "b"}
    assert found["named"].segments == set()
    environment = found["ad-tech"]
    assert environment.endpoint is not None
    assert (environment.endpoint.url, environment.segments) == ("https://ads.example/hook", {"d"})
    assert environment.endpoint.signing_secret() == SECRET
    assert found["x"].endpoint is None
    assert "segue webhooks add x URL --named-only" in found["x"].fault
    assert "SEGUE_WEBHOOK_X_URL" in found["x"].fault


@pytest.mark.parametrize(
    "url", ["ftp://a/b", "crm", "http://", "https://user:word@host/x", "http://a:99999/", "http://a b/"]
)
def test_what_is_no_address_is_refused(settings: Settings, url: str) -> None:
    with pytest.raises(BadInputError, match="no address"):
        add_endpoint(settings, replace(made("crm"), url=url))


@pytest.mark.parametrize("secret", ["", "hunter2", "whsec_", "whsec_%%%", "whsec_c2hvcnQ="])
def test_what_is_no_secret_is_refused(secret: str) -> None:
    with pytest.raises(BadInputError, match="secret"):
        replace(made("crm"), secret=secret).signing_secret()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A home with a small dbt project, one segment of which names a webhook."""
    root = tmp_path_factory.mktemp("named")
    dbt = root / "dbt"
    shutil.copytree(PROJECT_ROOT / "tests" / "models" / "tiny_project", dbt)
    (dbt / "macros").mkdir()
    for name in ("as_of.sql", "generate_schema_name.sql"):
        shutil.copy(PROJECT_ROOT / "dbt_project" / "macros" / name, dbt / "macros")
    shutil.copy(PROJECT_ROOT / "dbt_project" / "profiles.yml", dbt)
    settings = Settings(home=root / "home", dbt_project=dbt, webhook_allow_private=True, _env_file=None)  # type: ignore[call-arg]
    with running(settings):
        store: Store = open_store(settings)
        fence = store.acquire("test", ttl_seconds=600)
        assert fence is not None
        yield World(settings, store, fence, Webhooks(settings))


def segue(world: World, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    home = {
        "SEGUE_HOME": str(world.settings.home),
        "SEGUE_DBT_PROJECT": str(world.settings.dbt_project),
        "SEGUE_WEBHOOK_ALLOW_PRIVATE": "true",
        "COLUMNS": "250",
    }
    return subprocess.run(
        [str(Path(sys.executable).parent / "segue"), *words],
        env=child_environment(home | env),
        capture_output=True,
        text=True,
        check=False,
    )


def name_webhook(world: World, text: str) -> None:
    [path] = [p for p in world.settings.dbt_project.rglob("*.yml") if "name: power_users" in p.read_text()]
    was = path.read_text()
    assert "exclusive_group: engagement" in was
    path.write_text(was.replace("exclusive_group: engagement", f"on_change: {text}, exclusive_group: engagement", 1))


def test_a_webhook_that_a_segment_names_is_called_and_managed_from_the_command_line(
    project: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_webhook(project, "[crm]")
    with receiving() as receiver:
        listed = json.loads(segue(project, "webhooks", "list", "--format", "json").stdout)
        assert [(row["name"], row["segments"]) for row in listed] == [("crm", "power_users")]
        assert "it has no address" in listed[0]["url"]
        refused = segue(project, "webhooks", "test", "crm")
        assert refused.returncode == 1
        assert "SEGUE_WEBHOOK_CRM_URL" in refused.stderr
        where = {"SEGUE_WEBHOOK_CRM_URL": receiver.url, "SEGUE_WEBHOOK_CRM_SECRET": SECRET}
        tried = segue(project, "webhooks", "test", "crm", **where)
        assert tried.returncode == 0, tried.stderr
        assert receiver.requests[0].body["type"] == "segment.test"
        for name, value in where.items():
            monkeypatch.setitem(os.environ, name, value)
        with project.sending():
            project.wait(lambda: "crm" in project.kept.readers())
            project.happen(entered(1, "present"), entered(2))
            receiver.wait_for(2)
            project.wait(lambda: project.standing_of_named("crm").delivery.delivered == 1)
        receiver.answer = lambda *_: 410
        dead = [(entered(number), "the receiver answered 410") for number in (3, 4)]
        project.kept.save([EndpointChange(name="crm", dead=dead)])
        assert "p_3" in segue(project, "webhooks", "letters", "crm").stdout
        status = segue(project, "webhooks", "status", **where)
        assert status.returncode == 1
        assert "see `segue webhooks letters`" in status.stdout
        again = segue(project, "webhooks", "replay", "crm", **where)
        assert again.returncode == 1
        assert "2 dead letters stay: the receiver answered 410" in again.stderr
        receiver.answer = lambda *_: 200
        again = segue(project, "webhooks", "replay", "crm", **where)
        assert (again.returncode, "2 dead letters are delivered" in again.stderr) == (0, True), again.stderr
        assert [g.id for g in receiver.taken][-2:] == ["tr_t3", "tr_t4"]
        assert segue(project, "webhooks", "status", **where).returncode == 0
    assert {g.id for g in receiver.requests if g.id.startswith("tr_")} == {"tr_t2", "tr_t3", "tr_t4"}


def test_what_cannot_be_forgotten_is_not_removed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segue.cli.webhooks.settings", lambda: settings)
    add_endpoint(settings, made("crm"))
    with pytest.raises(ValkeyError):
        remove("crm")
    assert [one.name for one in endpoints(settings)] == ["crm"]
    with running(settings):
        kept = Webhooks(settings)
        kept.begin("crm")
        kept.begin("named")  # by YAML only: that is no endpoint of ours
        with pytest.raises(BadInputError, match="there is no webhook named"):
            remove("named")
        remove("crm")
        assert kept.readers() == {"named"}
    assert endpoints(settings) == []
