"""Label selectors of Kubernetes (metav1.LabelSelector): matched here, and as the text that autoscalers ask for. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pilvi.api import JsonObject

__all__ = ["matches", "render"]


def matches(selector: JsonObject, labels: Mapping[str, str]) -> bool:
    """Whether the labels are as the selector says; an empty selector matches everything, one with an unknown operator nothing."""
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    return all(labels.get(name) == value for name, value in wanted.items()) and all(
        _matches_term(term, labels) for term in selector.get("matchExpressions") or []
    )


def _matches_term(term: JsonObject, labels: Mapping[str, str]) -> bool:
    key, values = term["key"], term.get("values") or []
    match term["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return False


def render(selector: JsonObject) -> str:
    """The selector as kubectl and the scale subresource write it, such as `app=web,tier in (a,b)`."""
    parts = [(name, f"{name}={value}") for name, value in (selector.get("matchLabels") or {}).items()]
    parts += [(term["key"], _render_term(term)) for term in selector.get("matchExpressions") or []]
    return ",".join(text for _, text in sorted(parts))


def _render_term(term: JsonObject) -> str:
    key, values = term["key"], ",".join(sorted(term.get("values") or []))
    words: dict[str, str] = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key, "DoesNotExist": f"!{key}"}
    return words.get(term["operator"], str(key))
