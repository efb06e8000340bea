"""No secret shows: not in the table of settings, not in errors, not to the templates that dbt fills in."""

import traceback
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segue.cli import app
from segue.errors import WarehouseError
from segue.settings import Settings, dbt_child_environment
from segue.warehouse import Warehouse

SECRETS = {
    "SEGUE_CATALOG": "postgres:host=127.0.0.1 port=1 dbname=x user=ann password='catalog s3cret'",
    "SEGUE_VALKEY_URL": "rediss://ann:valkey-s3cret@127.0.0.1:1/0",
    "SEGUE_SLACK_TOKEN": "xoxb-s3cret",
    "SEGUE_SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/s3cret",
    "SEGUE_SMTP_URL": "smtp://ann:mail-s3cret@127.0.0.1",
    "SEGUE_IDENTITY_KEY": "identity-s3cret",
}


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_the_table_of_settings_shows_addresses_without_their_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    for name, value in (SECRETS | {"SEGUE_HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    said = CliRunner().invoke(app, ["config", "--format", form]).output
    assert "s3cret" not in said
    assert "127.0.0.1:1" in said


@pytest.mark.parametrize(
    "catalog",
    ["postgres:host=127.0.0.1 port=1 password=s3cret dbname=x", "postgres:postgresql://ann:s3cret@127.0.0.1:1/x"],
)
def test_a_catalog_that_does_not_answer_is_named_without_its_password(tmp_path: Path, catalog: str) -> None:
    settings = Settings(home=tmp_path, catalog=catalog, _env_file=None)  # type: ignore[call-arg]
    with pytest.raises(WarehouseError) as said:
        Warehouse(settings).connect()
    assert "127.0.0.1" in str(said.value)
    assert "s3cret" not in "".join(traceback.format_exception(said.value))


def test_dbt_is_not_told_what_only_others_need(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SECRETS | {"SEGUE_WEBHOOK_CRM_SECRET": "whsec_s3cret", "SEGUE_WEBHOOK_CRM_URL": "x"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SEGUE_WEBHOOK_ALLOW_PRIVATE", "true")
    told = dbt_child_environment({"SEGUE_AS_OF": "now"})
    # It writes the warehouse, and makes the hashes that identity needs.
    assert {name for name in told if "s3cret" in told[name]} == {"SEGUE_CATALOG", "SEGUE_IDENTITY_KEY"}
    assert told["SEGUE_AS_OF"] == "now"
    assert told["SEGUE_WEBHOOK_ALLOW_PRIVATE"] == "true"
