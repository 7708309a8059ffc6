"""Members of objects, forms, queries and heads, whose names some servers read more leniently than they are written.

Go and ASP.NET find the member `amount` in `{"Amount": 500}`; PHP finds the parameter `dry_run` in `?dry.run=1`, and WSGI the header
`X-Env` in `X_Env: prod`. A condition that took them for absent would be wrong about what the server does: it cannot know.
"""

from __future__ import annotations

from typing import Any, Final

_SEVERAL: Final = ""  # no name folds to nothing but the empty one, which is looked up as such


class OtherSpelling(ValueError):
    """A name that is asked for is there, or there as well, in a spelling that some servers take for it."""


def folded(name: str) -> str:
    """`name` as the most lenient server reads it.

    Go (encoding/json) and ASP.NET ignore case. PHP drops blanks before a name, ends it at a NUL, takes `x[]` and `x[0]` for `x`, and
    dots and blanks for `_`.
    """
    name = name.partition("\0")[0].strip().casefold()
    bracket = name.find("[", 1)
    return (name if bracket < 0 else name[:bracket]).replace(".", "_").replace(" ", "_")


class Members(dict[str, Any]):
    """A dict by name that knows of other spellings. They are worked out when a condition first asks."""

    __slots__ = ("_spellings",)
    _spellings: dict[str, str]

    def check(self, name: str) -> None:
        """Raises OtherSpelling when a member may be `name` to a server, and is not exactly that."""
        try:
            spellings = self._spellings
        except AttributeError:
            spellings = {}
            for member in self:
                key = self._folded(member)
                spellings[key] = _SEVERAL if key in spellings else member
            self._spellings = spellings
        if spellings.get(self._folded(name), name) != name:
            raise OtherSpelling("a name is there in another spelling")

    @staticmethod
    def _folded(name: str) -> str:
        return folded(name)


class HeaderFields(Members):
    """Header fields by lower-case name: CGI and WSGI read `X_Env` as `X-Env`."""

    __slots__ = ()

    @staticmethod
    def _folded(name: str) -> str:
        return name.replace("_", "-")
