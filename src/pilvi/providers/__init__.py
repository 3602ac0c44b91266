"""The controllers, one folder for each API group.

Each `providers.<group>` exports `controllers(platform) -> list[Controller]`. The groups do not import each other: what one has to
tell another it writes into an object that the other one watches (docs/design/0001).
"""
