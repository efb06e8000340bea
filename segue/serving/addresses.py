"""Which addresses of the network a webhook may go to."""

import ipaddress
import socket
from asyncio import get_running_loop
from collections.abc import Iterable
from typing import Any

import httpcore

#: All that is handed out to the public; what lies elsewhere is local, translated or reserved, whatever it is named.
_UNICAST = ipaddress.ip_network("2000::/3")
#: Look public, and are not. Azure and Oracle answer at the first two inside every virtual machine, with what is
#: secret there; then the relays of 6to4 that are no more, and addresses for examples.
_RESERVED = tuple(
    ipaddress.ip_network(text) for text in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")


class PrivateAddressError(Exception):
    """The name leads to an address that is not of the public internet."""


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet, whatever form it is written in.

    An IPv6 address that carries an IPv4 one (mapped, compatible, 6to4, NAT64, Teredo) is as public as what it carries.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.teredo is not None:
            return False
        carried = found.ipv4_mapped or found.sixtofour
        if carried is None and (found in _NAT64 or found in _COMPATIBLE):
            carried = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if carried is not None:
            found = carried
        elif found not in _UNICAST:
            return False
    return found.is_global and not found.is_multicast and not any(found in network for network in _RESERVED)


class PublicOnly(httpcore.AnyIOBackend):
    """Connects to the very address it has checked: a name that changes between looking and calling gains nothing."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """As the base class; a name of which any address is private is refused."""
        try:
            found = await get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be found: {error}") from error
        addresses = list(dict.fromkeys(str(row[4][0]) for row in found))
        if not all(is_public(address) for address in addresses):
            raise PrivateAddressError(
                f"{host} leads to a private address; set SEGUE_WEBHOOK_ALLOW_PRIVATE=true if that is wanted"
            )
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure
