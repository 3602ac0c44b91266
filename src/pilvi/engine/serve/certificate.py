"""The certificate that the engine's listeners show, taken up again whenever it has been renewed."""

import asyncio
import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)

# The platform's certificates are renewed months before they end.
RELOAD_S = 3600.0


def server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """A context for a server with that certificate and key (files). Raises OSError when they cannot be read or do not match."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, certificate)
    return context


async def keep_certificate(context: ssl.SSLContext, certificate: tuple[Path, Path]) -> None:
    """Read the files again from time to time. Ends by cancellation only."""
    while True:
        await asyncio.sleep(RELOAD_S)
        try:
            _load(context, certificate)
        except OSError as e:
            log.warning("the certificate of the engine's listeners cannot be read now: %s", e)


def _load(context: ssl.SSLContext, certificate: tuple[Path, Path]) -> None:
    """Take up certificate and key.

    They are two files, written in turn. Two that do not match raise SSLError (an OSError), and those in use stay so.
    """
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*certificate)
    context.load_cert_chain(*certificate)
