"""Manifest files that a user gives: read, applied, and waited for as far as they are clusters."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pilvi.api import JsonObject
from pilvi.errors import UserError

MANAGER = "pilvi-cli"


def read(files: Sequence[Path]) -> list[JsonObject]:
    """All documents of all files; `-` is standard input. Raises UserError with file and line for what is no YAML."""
    documents: list[JsonObject] = []
    for file in files:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        try:
            found: list[Any] = [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document is not None]
        except yaml.YAMLError as e:
            raise UserError(f"{file} is no YAML: {' '.join(str(e).split())}", hint="mend the file; nothing has been changed") from e
        if any(not isinstance(document, dict) or "kind" not in document for document in found):
            raise UserError(f"{file} holds a document that is no Kubernetes object", hint="each needs apiVersion, kind and metadata.name")
        documents += found
    return documents
