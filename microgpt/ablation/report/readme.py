"""Renders the pages of a report from its lock, by the templates beside this file."""

from collections.abc import Mapping
from functools import cache, partial
from shlex import quote
from types import SimpleNamespace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from microgpt.ablation.report import render, repeats, samples, setting, sizes, words
from microgpt.protocol.section import KEYS


@cache
def templates() -> Environment:
    """The templates; a name that does not exist is an error."""
    found = Environment(
        loader=PackageLoader("microgpt.ablation.report"),
        undefined=StrictUndefined,
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        keep_trailing_newline=True,
    )
    found.filters |= {
        "all_of": render.all_of,
        "count": render.count,
        "interval": render.interval,
        "p": render.p_of,
        "sentence": words.sentence,
        "signed": render.signed,
        "signed_interval": partial(render.interval, shown=render.signed),
    }
    found.globals |= {"repeats": repeats, "samples": samples, "setting": setting}
    found.globals |= {"sizes": sizes, "words": words}
    return found


def render_readme(lock: Mapping[str, Any]) -> str:
    """The page of an experiment."""
    asked = dict.fromkeys(KEYS) | (lock["ablation"] or {})
    sampled: Mapping[str, Any] = next(iter((lock["samples"] or {}).values()), {})
    differences = [row["difference"] for row in lock["table"] if row["difference"]]
    page = templates().get_template("readme.md.j2")
    return page.render(
        lock=lock,
        asked=asked,
        own="".join(f" {quote(word)}" for word in lock["words"]),
        tables=_tables(),
        compared=len(differences),
        bounded=sum(found["low"] is not None for found in differences),
        left=[run for run in lock["runs"] if run["status"] != "finished"],
        temperature=sampled.get("temperature"),
    )


def _tables() -> SimpleNamespace:
    return SimpleNamespace(
        arms=render.render_table,
        details=render.details,
        cost=partial(render.costs, multiplier=words.multiplier),
        grids=render.grids,
        local=render.local_exponents,
        looks=render.looks,
        samples=render.samples,
        times=render.times,
    )
