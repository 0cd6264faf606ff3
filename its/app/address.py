"""Check the address to serve at, and bind it."""

from __future__ import annotations

import ipaddress
import socket

from its.errors import UserError

LOOPBACK = "127.0.0.1"


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_access(host: str, password: str | None) -> None:
    """Check that a page for other machines has a password.

    Raises:
        UserError: it has none, or it is empty.
    """
    if password is not None and not password.strip():
        raise UserError("--password is empty; expected a text")
    if not is_loopback(host) and password is None:
        raise UserError(
            f"--host is {host}, which other machines can reach: set --password TEXT too, or the environment variable "
            "ITS_APP_PASSWORD"
        )


def bind(host: str, port: int) -> socket.socket:
    """Bind a TCP socket; with port 0, to a free port.

    Raises:
        UserError: the address can't be used.
    """
    if not 0 <= port < 2**16:
        raise UserError(f"--port is {port}; expected 0 to {2**16 - 1}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()  # a browser that is early waits
    except OSError as error:
        raise UserError(f"{host}:{port} can't be served at: {error.strerror or error}; choose another --port") from None
    return bound


def accepted_hosts(host: str, port: int) -> list[str]:
    """Return the accepted values of the header Host: those of this machine; empty for any, if others may connect."""
    if not is_loopback(host):
        return []
    names = ("localhost", LOOPBACK, "[::1]", host.lower())
    return [f"{name}:{port}" for name in names] + (list(names) if port == 80 else [])
