"""A registry as its clients see it (OCI distribution specification): manifests and blobs, with every digest and size verified.

One `Registry` serves one pull. Plain HTTP is spoken with loopback addresses only.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BufferedRandom
from ipaddress import ip_address
from urllib.parse import urlencode, urlsplit

import aiohttp

from pilvi.errors import Transient, UserError
from pilvi.images.endpoint import Endpoint
from pilvi.images.manifest import Blob, Index, Manifest, Token, choose_manifest, decode
from pilvi.images.reference import Reference

__all__ = ["Credentials", "Registry", "make_docker_config", "read_docker_config"]

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_DOCKER_HOSTS = {"docker.io": "registry-1.docker.io"}
_LARGEST_MANIFEST = 4 << 20
_CHUNK = 1 << 20
_TRIES, _PAUSE_S = 4, 0.1
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=30, sock_read=60)
# `Bearer realm="..",service=".."`, also several of them in one line, also without quotes.
_OFFER = re.compile(r'(Bearer|Basic|Negotiate|Digest)\b((?:[^"]|"[^"]*")*?)(?=,?\s*(?:Bearer|Basic|Negotiate|Digest)\b|$)', re.IGNORECASE)
_WORDS = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,"]+))')
_LARGEST_TOKEN = 1 << 20
_RETRIED = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Credentials:
    """User and password for one registry, both empty for none, and authorities in PEM to trust beside the host's. None is ever printed."""

    user: str
    password: str = field(repr=False)
    authorities: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """User and password as HTTP's Basic scheme has them."""
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def read_docker_config(content: bytes) -> dict[str, Credentials]:
    """Credentials by host from `.dockerconfigjson`. Raises UserError when it is none."""
    try:
        auths = json.loads(content)["auths"]
        return {_host_of(host): _read_auth(entry) for host, entry in auths.items()}
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as e:
        hint = "make it with `kubectl create secret docker-registry`"
        raise UserError("the pull secret holds no docker configuration", hint=hint) from e


def make_docker_config(credentials: Credentials, *hosts: str) -> dict[str, object]:
    """The other way round: what `.dockerconfigjson` holds for who has these credentials at the hosts."""
    entry = {"username": credentials.user, "password": credentials.password, "auth": credentials.basic}
    return {"auths": dict.fromkeys(hosts, entry)}


def _read_auth(entry: dict[str, str]) -> Credentials:
    if entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        return Credentials(user, password)
    return Credentials(entry["username"], entry["password"])


def _host_of(key: str) -> str:
    """`https://index.docker.io/v1/` is how docker writes `docker.io`."""
    host = urlsplit(key if "//" in key else f"//{key}").netloc
    return "docker.io" if host == "index.docker.io" else host


class Registry:
    """The registry of one image, with the credentials for it. Use as an async context manager.

    An `insecure` one is taken with any certificate, and by plain HTTP when it speaks no TLS. With an `endpoint` it is asked there, and
    nobody else is. Raises UserError for authorities that are no certificates.
    """

    def __init__(
        self,
        reference: Reference,
        credentials: Credentials | None = None,
        *,
        insecure: bool = False,
        endpoint: Endpoint | None = None,
    ) -> None:
        self._reference = reference
        self._credentials = credentials if credentials is not None and (credentials.user or credentials.password) else None
        self._insecure = insecure
        self._context = _context(credentials.authorities if credentials is not None else "", verify=not insecure)
        self._scheme = _scheme(reference.host)
        self._endpoint = endpoint
        self._token = ""
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Registry:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=4) if self._endpoint is None else self._endpoint.connector()
        self._session = aiohttp.ClientSession(
            timeout=_TIMEOUT, trust_env=self._endpoint is None, connector=connector, auto_decompress=False
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def manifest(self) -> tuple[str, Manifest]:
        """The digest that the reference stands for, and the image for this host. Raises UserError (rights, nonsense), Transient."""
        what = str(self._reference)
        if self._insecure and self._scheme == "https" and not await self._speaks_tls():
            self._scheme = "http"
        body = await self._manifest(self._reference.wanted)
        digest = _digest(body)
        if self._reference.digest and digest != self._reference.digest:
            raise UserError(f"the registry sent another image than {what}", hint="ask who runs the registry")
        entries = decode(body, Index, what).manifests
        if entries is not None:
            chosen = choose_manifest(entries, what)
            body = await self._manifest(chosen)
            if _digest(body) != chosen:
                raise UserError(f"the registry sent another manifest than {chosen} of {what}", hint="ask who runs the registry")
        return digest, decode(body, Manifest, what)

    async def fetch(self, blob: Blob, file: BufferedRandom, progress: Callable[[int], None]) -> None:
        """Write the blob to `file`, going on after what is in it. `progress` gets the bytes that are there.

        The whole is verified: a file that does not match is emptied. Raises UserError, Transient; what has come stays for the next time.
        """
        failure = Transient(f"blob {blob.digest} of {self._reference} did not come")
        tries = 0
        while tries < _TRIES:
            before = file.seek(0, 2)
            try:
                await self._fetch_rest(blob, file, progress)
            except Transient as e:
                failure = e
                # As long as something comes it may break off as often as it likes.
                tries = 0 if file.seek(0, 2) > before else tries + 1
                await asyncio.sleep(_PAUSE_S * 2**tries)
                continue
            file.seek(0)
            found = await asyncio.to_thread(hashlib.file_digest, file, "sha256")
            if file.seek(0, 2) == blob.size and f"sha256:{found.hexdigest()}" == blob.digest:
                return
            file.truncate(0)
            tries += 1
            failure = Transient(f"what came of {blob.digest} of {self._reference} is not what its digest says")
        raise failure

    async def _fetch_rest(self, blob: Blob, file: BufferedRandom, progress: Callable[[int], None]) -> None:
        have = file.seek(0, 2)
        if have >= blob.size:
            if have > blob.size:
                file.truncate(0)
            else:
                return
            have = 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        async with self._get(f"blobs/{blob.digest}", headers) as response:
            if have and response.status != 206:  # it sends all of it again
                file.truncate(0)
                file.seek(have := 0)
            try:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    have += len(chunk)
                    if have > blob.size:
                        raise UserError(
                            f"the registry sends more than the {blob.size} bytes of {blob.digest} of {self._reference}",
                            hint="ask who runs the registry",
                        )
                    await asyncio.to_thread(file.write, chunk)
                    progress(have)
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as e:
                file.flush()
                raise Transient(f"the registry broke off after {have} of {blob.size} bytes of {self._reference}") from e
        file.flush()
        if have < blob.size:
            raise Transient(f"the registry sent {have} of {blob.size} bytes of {self._reference}")

    async def _manifest(self, wanted: str) -> bytes:
        async with self._get(f"manifests/{wanted}", {"Accept": ", ".join((*_INDEXES, *_MANIFESTS))}) as response:
            try:
                body = await response.content.read(_LARGEST_MANIFEST + 1)
                while len(body) <= _LARGEST_MANIFEST and (more := await response.content.read(_LARGEST_MANIFEST)):
                    body += more
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as e:
                raise Transient(f"the registry broke off within the manifest of {self._reference}") from e
        if len(body) > _LARGEST_MANIFEST:
            raise UserError(f"the manifest of {self._reference} is larger than any image's", hint="check the reference")
        return body

    def _get(self, path: str, headers: dict[str, str]) -> _Request:
        host = _DOCKER_HOSTS.get(self._reference.host, self._reference.host)
        base = f"{self._scheme}://{host}" if self._endpoint is None else self._endpoint.url
        return _Request(self, f"{base}/v2/{self._reference.path}/{path}", headers)

    async def _speaks_tls(self) -> bool:
        """Whether anything answers there by TLS; asked only of a registry that is allowed to do without."""
        try:
            response = await self._send(f"https://{self._reference.host}/v2/", {})
        except Transient:
            return False
        response.release()
        return True

    async def open(self, url: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        """The answer to a request that succeeded, after a token was asked for if need be."""
        for attempt in range(2):
            response = await self._send(url, {**headers, **self._authorization()})
            if response.status != 401 or attempt:
                break
            challenge = response.headers.get("WWW-Authenticate", "")
            response.release()
            await self._answer(challenge)
        if response.status in (200, 206):
            return response
        text = (await response.content.read(2000)).decode(errors="replace")
        response.release()
        raise self._failure(response, text)

    async def _send(self, url: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        assert self._session is not None  # noqa: S101 (a bug of the caller's)
        try:
            # aiohttp drops Authorization when a redirect leads to another host, as blobs of large registries do.
            return await self._session.get(url, headers=headers, allow_redirects=True, max_redirects=5)
        except (aiohttp.TooManyRedirects, aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as e:
            raise UserError(f"registry {self._reference.host} sends clients in circles or nowhere: {e}", hint="ask who runs it") from e
        except aiohttp.ClientConnectorCertificateError as e:
            raise UserError(
                f"the certificate of registry {self._reference.host} is not trusted",
                hint="add its authority to the host's, or in a DataVolume name a ConfigMap with it in certConfigMap",
            ) from e
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise Transient(f"registry {self._reference.host} does not answer for {self._reference}: {e or type(e).__name__}", 10.0) from e

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": self._token} if self._token else {}

    async def _answer(self, challenge: str) -> None:
        """Take up the first of the offered ways that is known here."""
        schemes = {match[1].lower(): match[2] for match in _OFFER.finditer(challenge)}
        if "bearer" in schemes:
            words = {name: quoted or plain for name, quoted, plain in _WORDS.findall(schemes["bearer"])}
            self._token = f"Bearer {await self._ask_token(words)}"
        elif "basic" in schemes and self._credentials is not None:
            self._token = f"Basic {self._credentials.basic}"

    async def _ask_token(self, challenge: dict[str, str]) -> str:
        realm = challenge.get("realm", "")
        if not _is_safe_url(realm):
            raise UserError(f"registry {self._reference.host} sends clients to {realm!r} for a token", hint="ask who runs the registry")
        query = {str(name): challenge[name] for name in ("service", "scope") if name in challenge}
        query.setdefault("scope", f"repository:{self._reference.path}:pull")
        headers = {"Authorization": f"Basic {self._credentials.basic}"} if self._credentials is not None else {}
        response = await self._send(f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}", headers)
        try:
            if response.status != 200:
                raise self._failure(response, "")
            body = await response.content.read(_LARGEST_TOKEN)
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise Transient(f"{realm} gives no token for {self._reference}: {e or type(e).__name__}", 10.0) from e
        finally:
            response.close()
        answer = decode(body, Token, f"a token for {self._reference}")
        token = answer.token or answer.access_token
        if not token.isascii() or not token.isprintable():
            raise UserError(f"{realm} gave no usable token for {self._reference}", hint="ask who runs the registry")
        return token

    def _failure(self, response: aiohttp.ClientResponse, text: str) -> Exception:
        said = _first_error(text)
        if response.status in _RETRIED:
            retry_s = response.headers.get("Retry-After", "")
            wait_s = float(retry_s) if retry_s.isdecimal() else 10.0
            return Transient(f"registry {self._reference.host} answers {response.status} for {self._reference}{said}", wait_s)
        if response.status in (401, 403):
            hint = (
                "name a Secret with its credentials in imagePullSecret"
                if self._credentials is None
                else "check the credentials in the pull secret"
            )
            return UserError(f"registry {self._reference.host} does not give {self._reference} to us{said}", hint=hint)
        if response.status == 404:
            return UserError(f"registry {self._reference.host} has no {self._reference}{said}", hint="check name and tag")
        return UserError(
            f"registry {self._reference.host} answers {response.status} for {self._reference}{said}", hint="check the reference"
        )


class _Request:
    """`async with` around one answer."""

    def __init__(self, registry: Registry, url: str, headers: dict[str, str]) -> None:
        self._registry, self._url, self._headers = registry, url, headers
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        self._response = await self._registry.open(self._url, self._headers)
        return self._response

    async def __aexit__(self, *_error: object) -> None:
        if self._response is not None:
            self._response.close()


def _context(authorities: str, *, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if authorities:
        try:
            context.load_verify_locations(cadata=authorities)
        except (ssl.SSLError, ValueError) as e:
            hint = "put the authority's certificate, from BEGIN CERTIFICATE to END CERTIFICATE, into the ConfigMap"
            raise UserError("the certificate authorities for the registry are not certificates in PEM", hint=hint) from e
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _scheme(host: str) -> str:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return "http" if ip_address(name).is_loopback else "https"
    except ValueError:
        return "http" if name == "localhost" else "https"


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _is_safe_url(url: str) -> bool:
    """Whether credentials may go there: HTTPS, or loopback."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" or (parts.scheme == "http" and _scheme(parts.netloc) == "http")
    except ValueError:
        return False


def _first_error(text: str) -> str:
    """`: MESSAGE` out of the registry's JSON, or nothing."""
    try:
        message = json.loads(text)["errors"][0]["message"]
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
    return f": {message}"
