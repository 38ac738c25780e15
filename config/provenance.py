"""Where a messenger file's facts come from, whose they are, and where they are published anew."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from config.values import Asn, PastDate, Prefix, Unique, Url


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


class SourceFields(Strict):
    url: Url
    read: PastDate


class OwnerFields(Strict):
    asns: Annotated[tuple[Asn, ...], Unique] = ()
    prefixes: Annotated[tuple[Prefix, ...], Unique] = ()


class ListFields(Strict):
    """A list that the owner publishes: of its prefixes, or of servers, which the targets whose
    names begin with ``targets`` were taken from."""

    url: Url
    form: Literal["prefixes", "proxy_for"]
    targets: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,40}$|^$")] = ""

    @model_validator(mode="after")
    def _of_servers_says_which(self) -> Self:
        if (self.form == "proxy_for") is not bool(self.targets):
            raise ValueError("needs targets if, and only if, its form is proxy_for")
        return self
