"""How QEMU is told: pairs of an option and its value, as JSON wherever QEMU takes it."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

__all__ = ["Words", "device", "escaped", "given", "json_option", "switch"]

Words: TypeAlias = tuple[str, str]


def json_option(option: str, value: dict[str, Any]) -> Words:
    """`option` with a JSON value."""
    return option, msgspec.json.encode(value).decode()


def given(**properties: Any) -> dict[str, Any]:
    """The properties that are not None."""
    return {name: value for name, value in properties.items() if value is not None}


def device(driver: str, **properties: Any) -> Words:
    """A device of the guest; properties that are None stay as QEMU has them."""
    return json_option("-device", given(driver=driver, **properties))


def escaped(text: object) -> str:
    """`text` as a value in a list of options that commas part."""
    return str(text).replace(",", ",,")


def switch(value: bool) -> str:
    """QEMU's word for a truth."""
    return "on" if value else "off"
