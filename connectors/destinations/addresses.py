"""Keeps destinations off private addresses, unless their settings allow them.

The host name is resolved and checked before connecting, and the address of the
connection is checked again before sending: the name may resolve differently then.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from connectors.errors import Rejected

__all__ = ["Guard", "is_loopback", "is_private", "resolved"]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ASSIGNED = ipaddress.IPv6Network("2000::/3")  # all of the internet's IPv6 addresses

Resolve = Callable[[str, int], Iterable[str]]


def is_loopback(host: str) -> bool:
    try:
        return _address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_private(host: str) -> bool:
    """Return whether a host is an address off the internet, in any notation.

    Names other than `localhost` are not: they must be resolved first.
    """
    if f".{host.rstrip('.')}".endswith(".localhost"):
        return True
    try:
        # Also 127.1, 0x7f000001 and 2130706433, which all connect to 127.0.0.1.
        addresses = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return any(_is_internal(str(address[0])) for *_, address in addresses)


def resolved(host: str, port: int) -> list[str]:
    """Return the addresses of a host name."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in addresses]


class Guard:
    """The `trace` extension of one request; blocks forbidden connections.

    `host` is the URL's, as it is sent. If a proxy is used, the proxy decides.
    """

    def __init__(
        self,
        name: str,
        host: str,
        *,
        is_plain: bool,
        allow_private: bool,
        resolve: Resolve = resolved,
    ) -> None:
        self._name = name
        self._host = host
        self._is_plain = is_plain
        self._allow_private = allow_private
        self._resolve = resolve
        self._is_asked = False

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self._is_asked = info["host"] == self._host  # otherwise it is a proxy
            if self._is_asked:
                with suppress(OSError):  # connecting will raise it
                    for address in self._resolve(self._host, info["port"]):
                        self._check(address)
        elif event == "connection.connect_tcp.complete" and self._is_asked:
            stream = info["return_value"]
            try:
                self._check(stream.get_extra_info("server_addr")[0])
            except Rejected:
                stream.close()
                raise

    def _check(self, address: str) -> None:
        """Raise Rejected if the destination must not use this address."""
        if self._is_plain:
            if not is_loopback(address):
                raise Rejected(
                    f"{self._name}: {self._host} is not this machine, and plain http "
                    "is for this machine only; use https.",
                    "destination",
                )
        elif _is_internal(address) and not self._allow_private:
            raise Rejected(
                f"{self._name}: {self._host} leads to a private address ({address}). "
                "Correct the url, or set allow_private: true.",
                "destination",
            )


def _is_internal(address: str) -> bool:
    parsed = _address(address)
    if parsed.version == 6 and parsed not in _ASSIGNED:
        return True
    return not parsed.is_global or parsed.is_multicast


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse an address; return the inner one if it embeds another."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
