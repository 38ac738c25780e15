"""What pydantic finds wrong, in our own words and at the place where it is written."""

from __future__ import annotations

import difflib
import typing
from typing import Any

from pydantic import BaseModel

from config.document import KeyPath


def known_keys(model: Any, path: KeyPath) -> list[str]:
    """The keys that may stand at ``path``, where targets carry the kind of their probe in it."""
    for part in path:
        if isinstance(part, int):
            model = typing.get_args(model)[0]
        elif isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[part].annotation
        elif typing.get_origin(model) is dict:
            model = typing.Annotated[typing.get_args(model)[1], ...]
        else:  # the tagged union of targets
            union = typing.get_args(model)[0]
            model = next(
                one
                for one in (typing.get_args(union) or (union,))
                if typing.get_args(one.model_fields["probe"].annotation) == (part,)
            )
    return list(model.model_fields)


def written_path(loc: KeyPath, kind: str) -> KeyPath:
    """Pydantic's location without the kind of a probe, which it puts after a target's index and a
    module's name."""
    at = {"targets": 2, "probe_endpoint": 3}.get(str(loc[0]), len(loc)) if loc else 0
    path = loc[:at] + loc[at + 1 :] if loc[1:2] != ("allow",) else loc
    return (*path, "probe") if kind in ("union_tag_invalid", "union_tag_not_found") else path


def message_of(model: type[BaseModel], error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("missing", "union_tag_not_found"):
        return "is required"
    if kind == "extra_forbidden":
        return "is not a known key" + _hint(error["loc"][-1], known_keys(model, error["loc"][:-1]))
    if kind == "union_tag_invalid":
        kinds = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        return f"must be one of {', '.join(kinds)}, not {context['tag']!r}" + _hint(
            context["tag"], kinds
        )
    if kind == "value_error":
        return str(context["error"])
    message = (
        str(error["msg"]).replace("Input should be", "must be").replace("an object", "a mapping")
    )
    given = error["input"]
    return message if isinstance(given, dict | list) else f"{message}, not {given!r}"


def _hint(wrong: str, known: list[str]) -> str:
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
