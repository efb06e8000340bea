"""Every setting of Segue, typed, in one place: `SEGUE_*` in the environment or in `.env`."""

import os
import re
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from segue import durable
from segue.errors import BadSettingError

PROJECT_ROOT = Path(__file__).resolve().parent.parent

#: A password inside an address, as `user:password@host` or as `password=…` of a PostgreSQL catalog.
_PASSWORD = re.compile(
    r"(?<=:)(?P<url>[^:/@\s]+)(?=@)|\b(?:password|sslpassword)\s*=\s*(?P<pair>'(?:\\.|[^'])*'|\S+)", re.I
)
#: Shorter words stand in any text.
_SHORTEST_SECRET = 4
_STARS = "**********"

#: How long the SQL of one model may take, unless an installation says otherwise.
MODEL_SECONDS = 3600.0


class Settings(BaseSettings):
    """What an installation can be told. `segue config` prints this table with the values in force."""

    model_config = SettingsConfigDict(
        env_prefix="SEGUE_", env_file=PROJECT_ROOT / ".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    home: Path = Field(PROJECT_ROOT / ".segue", description="Where all state lives. Two homes never meet.")
    dbt_project: Path = Field(PROJECT_ROOT / "dbt_project", description="The dbt project that analysts edit.")
    catalog: str = Field(
        "",
        description="Catalog of the warehouse. Empty: SQLite under the home. "
        "PostgreSQL when outgrown: `postgres:dbname=segue host=…`.",
    )
    data_path: str = Field(
        "", description="Where the warehouse keeps its Parquet files. Empty: under the home; or s3://…"
    )
    memory_limit: str = Field("", description="Most memory DuckDB may use, e.g. 4GB. Empty: DuckDB's own default.")
    model_seconds: float = Field(
        MODEL_SECONDS,
        gt=0,
        description="After so long the SQL of one model is stopped and fails: it must not hold up all others for ever.",
    )
    snapshot_hours: int = Field(
        24, ge=1, description="How long old states stay readable before maintenance drops them."
    )
    history_start: date = Field(date(2019, 1, 1), description="First day of the daily partitions in the Dagster UI.")
    history_days: int = Field(
        90,
        ge=0,
        description="How many past days of segment history a refresh fills in by itself; older days by backfill.",
    )
    run_days: int = Field(
        14,
        ge=1,
        description="How many days Dagster keeps the events and logs of a run. What it knows of the assets, it keeps.",
    )
    landing: Path | None = Field(None, description="The landing zone for event files. Empty: HOME/landing.")
    landing_days: int = Field(
        30,
        ge=0,
        description="How many days files of the landing writer stay after they were read; longer than a backup of the "
        "warehouse may be old, since they bring it up to date. 0: for ever. Files of others are never removed.",
    )
    settle_seconds: float = Field(
        2.0, ge=0, description="How long a fresh file in the landing zone must stay unchanged before it is read."
    )
    dagster_url: str = Field("http://127.0.0.1:3000", description="Where people open the Dagster UI; used for links.")
    dagster_api_url: str = Field(
        "", description="Where our own sensors reach the Dagster UI. Empty: as people do; `segue up` sets it by itself."
    )
    slack_webhook_url: SecretStr | None = Field(None, description="Slack incoming webhook for alerts.")
    slack_token: SecretStr | None = Field(
        None, description="Bot token of a Slack app (xoxb-…): alerts with charts and threads. Comes before the webhook."
    )
    slack_channel: str = Field("", description="Slack channel for alerts by bot token, such as #alerts or its id.")
    slack_api_url: str = Field("https://slack.com/api/", description="Slack's API, for GovSlack or a proxy.")
    smtp_url: SecretStr | None = Field(None, description="smtp://user:password@host:port for e-mail alerts.")
    email_from: str = Field("segue@localhost", description="Sender of e-mail alerts.")
    email_to: str = Field("", description="Receivers of e-mail alerts, separated by commas.")
    valkey_url: str = Field(
        "",
        description="The Valkey of the log and the serving store: redis:// or rediss:// address. "
        "Empty: one of our own under the home, on a socket that only this user can open.",
    )
    valkey_max_bytes: int = Field(
        0, ge=0, description="Most memory our own Valkey may use. 0: six tenths of the machine's memory."
    )
    log_max_bytes: int = Field(
        0,
        ge=0,
        description="Ceiling of the event log; beyond it the collector answers 503. 0: a fifth of the machine's "
        "memory.",
    )
    collector_host: str = Field("127.0.0.1", description="Where the collector listens; a proxy with TLS stands before.")
    collector_port: int = Field(8721, ge=0, le=65535, description="Port of the collector. 0: any free one.")
    api_host: str = Field("127.0.0.1", description="Where the API listens; a proxy with TLS stands before.")
    api_port: int = Field(8722, ge=0, le=65535, description="Port of the API and the live page. 0: any free one.")
    api_requests_per_second: int = Field(
        1000, ge=1, description="Requests that one read token may make; beyond, the API answers 429."
    )
    dashboard_host: str = Field("127.0.0.1", description="Where the dashboard listens; a proxy with a login before it.")
    dashboard_port: int = Field(8723, ge=0, le=65535, description="Port of the dashboard. 0: any free one.")
    dashboard_url: str = Field(
        "http://127.0.0.1:8723", description="Where people open the dashboard; used for links in alerts."
    )
    webhook_allow_private: bool = Field(
        False, description="Let webhooks go to private, loopback and link-local addresses."
    )
    landing_seconds: float = Field(10.0, gt=0, description="The landing writer makes a file at least this often.")
    landing_bytes: int = Field(16_000_000, gt=0, description="The landing writer makes a file of about this size.")
    sweep_seconds: int = Field(
        300,
        ge=10,
        description="How late, at the latest, the engine notices a change of segments that comes with time alone; "
        "most are noticed in their second.",
    )
    identity_key: SecretStr | None = Field(
        None, description="Key of the hashes of e-mail addresses. Empty: made on first use, in HOME/keys/identity.key."
    )
    country: str = Field("US", description="Country whose holidays the forecasts know (ISO 3166, two letters).")

    @field_validator("home", "dbt_project", "landing")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @cached_property
    def landing_zone(self) -> Path:
        """The folder that event files are dropped into."""
        return self.landing or self.home / "landing"

    @property
    def log_ceiling_bytes(self) -> int:
        """Bytes that the event log may hold."""
        return self.log_max_bytes or machine_memory_bytes() // 5

    @property
    def valkey_ceiling_bytes(self) -> int:
        """Bytes that our own Valkey may use. It evicts nothing: beyond this it refuses to write."""
        return self.valkey_max_bytes or machine_memory_bytes() * 6 // 10

    @cached_property
    def warehouse_home(self) -> Path:
        """Local files of the warehouse: catalog, data, locks, extensions."""
        return self.home / "warehouse"

    @cached_property
    def catalog_uri(self) -> str:
        """What DuckLake attaches as its catalog."""
        return self.catalog or f"sqlite:{self.warehouse_home / 'catalog.sqlite'}"

    @cached_property
    def data_uri(self) -> str:
        """Where DuckLake writes Parquet files."""
        return self.data_path or str(self.warehouse_home / "data")

    @cached_property
    def _secrets(self) -> tuple[str, ...]:
        values = [getattr(self, name) for name in type(self).model_fields]
        found = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
        for value in (self.catalog, self.valkey_url, self.data_path):
            found += [m["url"] or m["pair"].strip("'") for m in _PASSWORD.finditer(value)]
        # The longest first: one may be part of another.
        return tuple(sorted((one for one in found if len(one) >= _SHORTEST_SECRET), key=len, reverse=True))

    def without_secrets(self, text: str) -> str:
        """The text with stars for every secret of these settings: for messages that quote an address."""
        for secret in self._secrets:
            text = text.replace(secret, _STARS)
        return text

    @property
    def catalog_is_sqlite(self) -> bool:
        """Whether the catalog is the file under the home, and no server."""
        return self.catalog_uri.startswith("sqlite:")

    @cached_property
    def dbt_home(self) -> Path:
        """Manifest, compiled SQL and logs of dbt: never inside the analysts' folder."""
        return self.home / "dbt"


def load_settings(**overrides: object) -> Settings:
    """The settings in force.

    Raises:
        BadSettingError: naming each variable that has a wrong value.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = "; ".join(f"SEGUE_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise BadSettingError(
            f"unusable settings: {wrong}",
            fix="correct it in the environment or in .env; `segue config` then lists every setting and its meaning",
        ) from None


def machine_memory_bytes() -> int:
    """Memory of this machine, or of the container we run in when that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, for this user alone: a home holds everybody's events.

    What is there already stays as it is.
    """
    durable.make_folder(folder, mode=0o700)


def cannot_write(folder: Path, error: OSError) -> BadSettingError:
    """Why a folder of the home is of no use, and what to do."""
    return BadSettingError(
        f"{folder} cannot be written: {error.strerror}",
        fix="check its permissions and that its disk has space, or set SEGUE_HOME to another folder",
    )


def dbt_child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """As `child_environment`, for dbt: without what only others need to know, since templates can ask for it."""
    withheld = {f"SEGUE_{name.upper()}" for name in ("slack_webhook_url", "slack_token", "smtp_url", "valkey_url")}
    is_webhook = re.compile(r"SEGUE_WEBHOOK_\w+_(URL|SECRET)")
    kept = {k: v for k, v in os.environ.items() if k not in withheld and not is_webhook.fullmatch(k)}
    return {**kept, **extra}


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with `extra` on top, for a program that we start."""
    return {**os.environ, **extra}
