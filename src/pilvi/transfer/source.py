"""A file on a web server, and the way to it."""

from __future__ import annotations

import ssl
import urllib.request
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from yarl import URL

from pilvi.errors import UserError

__all__ = ["HttpSource", "Proxies"]


@dataclass(frozen=True)
class Proxies:
    """Proxies by scheme; `no_proxy` are hosts, domains and networks that are asked directly, with commas; `*` is all."""

    http: str = ""
    https: str = ""
    no_proxy: str = ""

    @classmethod
    def from_environment(cls) -> Proxies:
        """What HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the process say."""
        found = urllib.request.getproxies_environment()
        return cls(found.get("http", ""), found.get("https", ""), found.get("no", ""))

    def find(self, url: URL) -> str | None:
        """The proxy to ask for `url`, None for none."""
        proxy = self.https if url.scheme == "https" else self.http
        return proxy if proxy and not any(_covers(entry.strip(), url.host or "") for entry in self.no_proxy.split(",")) else None


def _covers(entry: str, host: str) -> bool:
    """Whether an entry of NO_PROXY means the host."""
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        domain = entry.lower().lstrip(".")
        return bool(domain) and (host.lower() == domain or host.lower().endswith(f".{domain}"))


@dataclass(frozen=True, kw_only=True)
class HttpSource:
    """A file on a web server. `headers` are sent to the server that `url` names and to no other, as user name and password are.

    `authorities` are certificates in PEM that are trusted beside the system's; `verify` False trusts any.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    user: str = ""
    password: str = field(default="", repr=False)
    authorities: str = field(default="", repr=False)
    verify: bool = True
    proxies: Proxies = field(default_factory=Proxies.from_environment, repr=False)

    def parsed(self) -> URL:
        """The URL. Raises UserError when it is none of http or https."""
        try:
            url = URL(self.url)
        except ValueError as e:
            raise UserError(f"{self.url!r} is no URL", hint="write http:// or https://, a host and a path") from e
        if url.scheme not in ("http", "https") or not url.host:
            raise UserError(f"{self.url!r} is no URL of http or https", hint="write http:// or https://, a host and a path")
        return url

    def context(self) -> ssl.SSLContext:
        """Whom to trust. Reads the system's authorities. Raises UserError when `authorities` is not PEM."""
        context = ssl.create_default_context()
        if self.authorities:
            try:
                context.load_verify_locations(cadata=self.authorities)
            except (ssl.SSLError, ValueError) as e:
                raise UserError(
                    "the certificate authorities for the server are not certificates in PEM",
                    hint="put the authority's certificate, from BEGIN CERTIFICATE to END CERTIFICATE, into the ConfigMap",
                ) from e
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
