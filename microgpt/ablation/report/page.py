"""Renders a page in Markdown as a self-contained HTML page, without scripts or external files."""

import re
from base64 import b64encode
from itertools import pairwise
from pathlib import Path

from microgpt.ablation.report.readme import templates

LINK = re.compile(r"\[([^][]+)\]\(((?:\.\./)?[\w.-]+/README\.md)\)")  # to another page
LONG = 60  # characters of a cell, from which on it may be broken into lines


def html_page(markdown: str, title: str, folder: Path) -> str:
    """The page with the pictures of `folder` inlined as SVG.

    Links, which lead to files beside the page, are plain text.
    """
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    for token, following in pairwise([*tokens, tokens[-1]]):
        if token.type == "td_open" and len(following.content) > LONG:
            token.attrSet("class", "long")
        inside = token.children or []
        token.children = [
            child for child in inside if child.type not in ("link_open", "link_close")
        ]
        for child in token.children:
            if child.type == "image":
                child.attrSet("src", _inline(folder / str(child.attrGet("src"))))
    body = parser.renderer.render(tokens, parser.options, {}).replace(" %", "\u00a0%")
    return templates().get_template("page.html.j2").render(title=title, body=Markup(body))


def linked(markdown: str, folder: Path) -> str:
    """The page, in `folder`, where links to pages that are not there are plain text."""

    def kept(link: re.Match[str]) -> str:
        return link[0] if (folder / link[2]).exists() else link[1]

    return LINK.sub(kept, markdown)


def _inline(picture: Path) -> str:
    """The picture as a data URL."""
    content = picture.with_suffix(".svg").read_bytes()
    return f"data:image/svg+xml;base64,{b64encode(content).decode()}"
