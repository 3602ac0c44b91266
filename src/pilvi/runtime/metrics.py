"""Numbers about the engine as Prometheus text. Counters and gauges only, kept in dicts; no dependency, no background work."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Metrics"]

_Labels = tuple[tuple[str, str], ...]


class Metrics:
    """A registry. Declare a metric once with `counter` or `gauge`, then `add` or `set` it under labels."""

    def __init__(self) -> None:
        self._help: dict[str, tuple[str, str]] = {}
        self._values: dict[str, dict[_Labels, float]] = {}
        self._sources: dict[tuple[str, _Labels], Callable[[], float]] = {}

    def counter(self, name: str, help: str) -> None:
        """Declare a number that only grows. The same declaration again is a no-op."""
        self._declare(name, "counter", help)

    def gauge(self, name: str, help: str) -> None:
        """Declare a number that goes up and down."""
        self._declare(name, "gauge", help)

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Grow a counter. KeyError when it was not declared."""
        values = self._values[name]
        key = _key(labels)
        values[key] = values.get(key, 0.0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge. KeyError when it was not declared."""
        self._values[name][_key(labels)] = value

    def set_source(self, name: str, source: Callable[[], float], **labels: str) -> None:
        """Let a gauge be asked for its value when the metrics are rendered."""
        self._values[name].setdefault(_key(labels), 0.0)
        self._sources[name, _key(labels)] = source

    def remove(self, **labels: str) -> None:
        """Forget all values that carry these labels, for example of a tenant that is gone."""
        gone = set(_key(labels))
        for name, values in self._values.items():
            for key in [key for key in values if gone <= set(key)]:
                del values[key]
                self._sources.pop((name, key), None)

    def get(self, name: str, **labels: str) -> float:
        """The present value, 0 when nothing was said yet. KeyError when it was not declared."""
        key = _key(labels)
        source = self._sources.get((name, key))
        return source() if source is not None else self._values[name].get(key, 0.0)

    def render(self) -> str:
        """All metrics in the text format of Prometheus, version 0.0.4."""
        lines = []
        for name, (kind, help) in sorted(self._help.items()):
            lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
            for labels in sorted(self._values[name]):
                text = ",".join(f'{label}="{_escape(value)}"' for label, value in labels)
                lines.append(f"{name}{{{text}}} {self.get(name, **dict(labels)):g}" if text else f"{name} {self.get(name):g}")
        return "\n".join(lines) + "\n"

    def _declare(self, name: str, kind: str, help: str) -> None:
        self._help[name] = (kind, help)
        self._values.setdefault(name, {})


def _key(labels: dict[str, str]) -> _Labels:
    return tuple(sorted(labels.items()))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
