"""Certificates for wss on loopback: each run makes an authority of its own, which nobody else trusts."""

from __future__ import annotations

import ssl

from chaos.errors import without_extra
from chaos.networks.base import Tls
from chaos.networks.simulated.hosts import LINK
from chaos.running.run import HOST


def make_tls() -> Tls:
    """Return the contexts of a run with wss.

    Raises:
        UsageError: `trustme` is not installed.
    """
    try:
        import trustme  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise without_extra("wss", "trustme", "tls") from error
    # RSA: the length of ECDSA signatures varies, and on the simulated network sizes become times
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = authority.issue_cert(HOST, "localhost", LINK, key_type=trustme.KeyType.RSA)
    certificate.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Tls(server=server, client=client, name=HOST)
