"""From a page as data to one HTML file that loads nothing and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path

from analysis.page.document import Page, form

_FOLDER = Path(__file__).parent
SCRIPTS = ("format.js", "dom.js", "rows.js", "scale.js", "filters.js", "scatter.js", "stacks.js", "grid.js", "page.js")
"""The parts of the script, in the order in which they build on each other."""

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def to_html(page: Page) -> str:
    """Return a page as the text of one HTML file.

    The data stand in it as JSON in which nothing can end the element around them, and the page's policy lets run only
    what has the digest of the script of ours.
    """
    style = _part("page.css")
    script = '"use strict";\n(() => {\n' + "\n".join(_part(name) for name in SCRIPTS) + "})();\n"
    data = json.dumps(form(page), separators=(",", ":"), allow_nan=False, ensure_ascii=False).translate(_ESCAPES)
    parts = {
        "policy": f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'",
        "title": html.escape(page.title),
        "style": style,
        "data": data,
        "script": script,
    }
    # In one pass: a mark inside a part is text.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _part("page.html"))


def _part(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
