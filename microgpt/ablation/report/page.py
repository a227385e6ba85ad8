"""Renders Markdown as a self-contained HTML page, without scripts or external files."""

from base64 import b64encode
from html import escape
from pathlib import Path

STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
body { font: 16px/1.5 system-ui, sans-serif }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: .85rem }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap }
img { max-width: 100%; height: auto }
code, pre { background: #f4f4f4; border-radius: 3px; padding: .1rem .2rem }
pre { padding: .6rem }
"""


def html_page(markdown: str, title: str, folder: Path) -> str:
    """The page with the pictures of `folder` inlined; a PNG is replaced by its SVG if there is one."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    for token in tokens:
        for child in token.children or []:
            if child.type == "image":
                child.attrSet("src", _inline(folder / str(child.attrGet("src"))))
    body = parser.renderer.render(tokens, parser.options, {})
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}</body></html>\n'


def _inline(picture: Path) -> str:
    """The picture as a data URL."""
    content = picture.with_suffix(".svg").read_bytes()
    return f"data:image/svg+xml;base64,{b64encode(content).decode()}"
