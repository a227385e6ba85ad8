"""What `${token:}` and `${below:FOLDER}` give in a configuration."""

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from omegaconf import OmegaConf

from microgpt.syntax import written


def register() -> None:
    """Makes them known to OmegaConf."""
    OmegaConf.register_new_resolver("token", lambda: uuid4().hex[:6], use_cache=True, replace=True)
    OmegaConf.register_new_resolver("below", _outputs, replace=True)


class NoFolder(Exception):
    """`paths.outputs` cannot hold runs; the message is shown to the user."""


def _outputs(folder: Any) -> str:
    """Validates `paths.outputs`, a folder or a path where one can be made. Raises NoFolder."""
    if not isinstance(folder, str) or not folder:
        raise NoFolder(f"paths.outputs={written(folder)}: must name a folder")
    if "${" in folder or any("\ud800" <= each <= "\udfff" for each in folder):
        allowed = "must be text in UTF-8, without ${, which configurations replace"
        raise NoFolder(f"paths.outputs={folder}: {allowed}")
    there = Path(folder).absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        problem = "cannot be written to" if there.is_dir() else "is not a folder"
        raise NoFolder(
            f"paths.outputs={folder}: must be a folder to write to, but {there} {problem}"
        )
    return folder
