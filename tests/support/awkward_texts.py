"""Texts that oned's template syntax changes or interprets."""

from __future__ import annotations

AWKWARD = {
    "quotes": "say \"hi\", 'ho'",
    "trailing-backslash": "C:\\temp\\",
    "cdata-end": "a]]>b",
    "newline": "one\ntwo",
    "variable": "$NAME $USER[NAME]",
    "lone-dollar": "100$",
    "emoji": "lift-off \N{ROCKET}",
    "attributes": 'x",EVIL="y]\nEVIL=[A="1"]',
}
"""By the id of the test."""
