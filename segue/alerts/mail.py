"""E-mail: text, HTML and the charts inside it, by SMTP."""

import smtplib
import ssl
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from urllib.parse import unquote, urlsplit

from segue.alerts import html
from segue.alerts.errors import DeliveryError
from segue.alerts.message import Alert
from segue.errors import BadSettingError
from segue.watch import clean

_TIMEOUT = 20.0
_PORTS = {"smtp": 25, "smtps": 465}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where to hand mail in. The password never shows in `repr`."""

    host: str
    port: int
    is_tls: bool  # from the first byte; otherwise STARTTLS when the server offers it
    user: str | None
    password: str | None

    def __repr__(self) -> str:
        return f"Server({self.host}:{self.port})"


def parse_server(url: str) -> Server:
    """`smtp://host:port`, `smtps://user:password@host`; user and password percent-encoded.

    Raises:
        BadSettingError: when it is not such an address. The value is not repeated.
    """
    fix = "write SEGUE_SMTP_URL like smtp://user:password@mail.example.com:587 or smtps://mail.example.com"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadSettingError("SEGUE_SMTP_URL is not an address", fix=fix) from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise BadSettingError("SEGUE_SMTP_URL is not an smtp:// or smtps:// address", fix=fix)
    user = unquote(parts.username) if parts.username else None
    return Server(
        host=parts.hostname,
        port=port or (587 if parts.scheme == "smtp" and user else _PORTS[parts.scheme]),
        is_tls=parts.scheme == "smtps",
        user=user,
        password=unquote(parts.password) if parts.password else None,
    )


def receivers(addresses: str) -> list[str]:
    """The addresses of a comma-separated list.

    Raises:
        BadSettingError: when it is empty or one is not an address.
    """
    found = [address.strip() for address in addresses.split(",") if address.strip()]
    for address in found:
        _address(address, "SEGUE_EMAIL_TO")
    if not found:
        raise BadSettingError("SEGUE_SMTP_URL is set, but nobody to write to", fix="set SEGUE_EMAIL_TO")
    return found


def compose(alert: Alert, *, sender: str, to: list[str]) -> EmailMessage:
    """The message, complete. The Message-ID depends on the alert only, so that mail programs fold a second copy."""
    message = EmailMessage()
    message["Subject"] = clean(f"[Segue] {alert.severity}: {alert.title}", limit=180)
    message["From"] = _address(sender, "SEGUE_EMAIL_FROM")
    message["To"] = [_address(address, "SEGUE_EMAIL_TO") for address in to]
    message["Date"] = format_datetime(alert.as_of)
    message["Message-ID"] = f"<{alert.alert_id}@segue.invalid>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(html.text(alert))
    message.add_alternative(html.page(alert, lambda name: f"cid:{name}@segue.invalid"), subtype="html")
    rich = message.get_payload()[1]  # type: ignore[index]
    assert isinstance(rich, EmailMessage)
    for name, png in html.pictures(alert).items():
        rich.add_related(
            png, "image", "png", cid=f"<{name}@segue.invalid>", filename=f"{name}.png", disposition="inline"
        )
    return message


def send(message: EmailMessage, server: Server, *, tls: ssl.SSLContext | None = None) -> str:
    """Hand the message to the server; returns whom it went to, in words.

    Args:
        tls: how certificates are checked; default: against the system's authorities.

    Raises:
        DeliveryError: with the server's answer, without user and password.
    """
    context = tls or ssl.create_default_context()
    try:
        with _connect(server, context) as smtp:
            if server.user is not None:
                smtp.login(server.user, server.password or "")
            refused = smtp.send_message(message)
    except smtplib.SMTPAuthenticationError:
        raise DeliveryError(
            f"{server.host} does not accept the user and password", fix="check SEGUE_SMTP_URL", is_final=True
        ) from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = {code for code, _ in error.recipients.values()}
        raise DeliveryError(
            f"{server.host} refuses every receiver ({', '.join(map(str, sorted(codes)))})",
            fix="check SEGUE_EMAIL_TO",
            is_final=min(codes) >= 500,
        ) from None
    except smtplib.SMTPResponseException as error:
        answer = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        raise DeliveryError(
            f"{server.host} answered {error.smtp_code} {_redact(answer, server)}",
            fix="check SEGUE_SMTP_URL and SEGUE_EMAIL_FROM" if error.smtp_code >= 500 else "it is tried again",
            is_final=error.smtp_code >= 500,
        ) from None
    except ssl.SSLCertVerificationError:
        raise DeliveryError(
            f"the certificate of {server.host} cannot be verified",
            fix="use the name that is in the certificate; add your authority to the system's",
            is_final=True,
        ) from None
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryError(
            f"{type(error).__name__} while talking to {server.host}:{server.port}", fix="it is tried again"
        ) from None
    count = len(message["To"].addresses)
    taken = f"to {count} receivers" if count > 1 else "to 1 receiver"
    return f"{taken}, of whom the server refused {len(refused)}" if refused else taken


def _connect(server: Server, context: ssl.SSLContext) -> smtplib.SMTP:
    if server.is_tls:
        return smtplib.SMTP_SSL(server.host, server.port, timeout=_TIMEOUT, context=context)
    smtp = smtplib.SMTP(server.host, server.port, timeout=_TIMEOUT)
    try:
        smtp.ehlo()
        if smtp.has_extn("starttls"):
            smtp.starttls(context=context)
            smtp.ehlo()
        elif server.user is not None and server.host not in _LOOPBACK:
            raise DeliveryError(
                f"{server.host}:{server.port} offers no encryption, so the password is not sent",
                fix="use smtps:// or a port with STARTTLS, usually 587",
                is_final=True,
            )
    except BaseException:
        smtp.close()
        raise
    return smtp


def _redact(text: str, server: Server) -> str:
    line: str = clean(text, limit=300)
    for secret in (server.password, server.user):
        if secret:
            line = line.replace(secret, "…")
    return clean(line, limit=120)


def _address(text: str, setting: str) -> Address:
    name, address = parseaddr(text)
    try:
        if "@" not in address or clean(text, limit=500) != text.strip():
            raise ValueError(text)
        return Address(display_name=name, addr_spec=address)
    except (ValueError, IndexError) as error:
        raise BadSettingError(
            f"{setting}: {clean(text)!r} is not an e-mail address", fix="write name@example.com"
        ) from error
