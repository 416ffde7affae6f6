"""A hook of MkDocs: links of the pages to files beside `docs/` lead to the repository."""

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"\]\((?P<target>(?:\.\./)+[^)#]*)(?P<rest>[^)]*)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return the page with such links replaced; MkDocs calls this."""

    def replaced(link: re.Match[str]) -> str:
        path = posixpath.normpath(
            posixpath.join("docs", posixpath.dirname(page.file.src_uri), link["target"])
        )
        if path.startswith("docs/"):
            return link[0]
        return f"]({config['repo_url']}/blob/main/{path}{link['rest']})"

    return LINK.sub(replaced, markdown)
