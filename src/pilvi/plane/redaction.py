"""What must not leave the host in a report, and a copy without it. Pure.

Two ways: fields that hold secrets by their name and place, and, in every other text, what looks like a secret wherever it stands. The
second cannot know a secret that looks like any other word, so people are told to look before they pass a report on.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from pilvi.api import JsonObject

__all__ = ["HIDDEN", "redact", "redact_text", "redact_value"]

HIDDEN = "(left out)"

# Whole values, wherever a field is called so. Commands of a bootstrap are shell, in which people write whatever they need.
_FIELDS = {
    "bootCommands",
    "certificateKey",
    "client-key-data",
    "networkData",
    "networkDataBase64",
    "passwd",
    "password",
    "postKubeadmCommands",
    "preKubeadmCommands",
    "token",
    "tokens",
    "userData",
    "userDataBase64",
}
# One field of every entry of a list: a KubeadmConfig's files, a container's environment, a probe's headers.
_ENTRIES = {"files": "content", "env": "value", "httpHeaders": "value"}
_DROPPED = {"managedFields", "kubectl.kubernetes.io/last-applied-configuration"}
_DATA = {"Secret": ("data", "stringData"), "ConfigMap": ("binaryData",)}

_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# Of a log that was cut off above. Bounded, as the rest of these are: a log of one long line must not take minutes.
_END_OF_KEY = re.compile(r"(?:(?<![\w+/=])[\w+/=]{8,80}\s+){1,80}(-----END [A-Z ]*PRIVATE KEY-----)", re.ASCII)
_ENCODED_PEM = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/]{16,}={0,2}")
_WORD = r"(?:token|passw(?:or)?d|passphrase|client-key-data|client-secret|secret-key|api-?key)"
_ASSIGNED = re.compile(rf"""({_WORD}["']?\s*[:=]\s*["']?|(?<![\w-])--?[\w-]{{0,40}}{_WORD}\s+)[^\s"',;}}\]]+""", re.IGNORECASE)
_OPTION = re.compile(rf"--?[\w-]*{_WORD}", re.IGNORECASE)
_WEB_TOKEN = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")
_BOOTSTRAP_TOKEN = re.compile(r"(?<![\w.-])([a-z0-9]{6})\.[a-z0-9]{16}(?![\w.-])")
_BEARER = re.compile(r"\b(bearer|basic) +[\w.~+/=-]{6,}", re.IGNORECASE)
_USER_INFO = re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://[^/\s:@]+:)[^/\s@]+@", re.IGNORECASE)
# A document inside a text that is there for its secrets.
_DOCUMENT = re.compile(r"""client-key-data|["']?kind["']?\s*:\s*["']?Secret\b|["']?users["']?\s*:[^#]*["']?(?:token|password)["']?\s*:""")


def redact(obj: JsonObject) -> JsonObject:
    """A copy of an object of any kind, without secrets and managed fields; what it shares with `obj` is not changed."""
    clean: JsonObject = {**obj}
    kind = obj.get("kind") or ""
    for field in _DATA.get(kind, ()):
        if clean.get(field):
            clean[field] = dict.fromkeys(clean[field], HIDDEN)
    if kind == "ConfigMap" and clean.get("data"):
        clean["data"] = {name: HIDDEN if _DOCUMENT.search(text) else text for name, text in clean["data"].items()}
    cleaned: JsonObject = redact_value(clean)
    return cleaned


def redact_value(value: Any) -> Any:
    """A copy of decoded JSON without secrets."""
    if isinstance(value, dict):
        return {name: _redact_field(name, inner) for name, inner in value.items() if name not in _DROPPED}
    if isinstance(value, list):
        # The value of an option may be a word of its own.
        before = [None, *value]
        return [HIDDEN if _is_option(option) else redact_value(inner) for option, inner in zip(before, value, strict=False)]
    return redact_text(value) if isinstance(value, str) else value


def redact_text(text: str) -> str:
    """A text without private keys, tokens, passwords and credentials in addresses, as far as they can be told from other words."""
    text = _PRIVATE_KEY.sub(rf"\1 {HIDDEN}", text)
    text = _END_OF_KEY.sub(rf"{HIDDEN} \1", text)
    text = _ENCODED_PEM.sub(lambda found: HIDDEN if _is_private(found[0]) else found[0], text)
    text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
    text = _WEB_TOKEN.sub(HIDDEN, text)
    text = _BOOTSTRAP_TOKEN.sub(rf"\1.{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _USER_INFO.sub(rf"\1{HIDDEN}@", text)


def _redact_field(name: str, value: Any) -> Any:
    if name in _FIELDS and isinstance(value, str | list):
        return HIDDEN
    secret = _ENTRIES.get(name)
    if secret is not None and isinstance(value, list):
        return [_without(entry, secret) if isinstance(entry, dict) else redact_value(entry) for entry in value]
    return redact_value(value)


def _without(entry: JsonObject, field: str) -> JsonObject:
    clean: JsonObject = redact_value(entry)
    return {**clean, field: HIDDEN} if entry.get(field) else clean


def _is_option(value: Any) -> bool:
    return isinstance(value, str) and _OPTION.fullmatch(value) is not None


def _is_private(encoded: str) -> bool:
    try:
        return b"PRIVATE KEY" in base64.b64decode(encoded[:64])
    except binascii.Error:
        return True
