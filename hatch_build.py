"""A wheel carries the C library, where there is a compiler when it is built."""

import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent


class Native(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles for any processor of the platform; without a compiler the wheel is a pure one."""

    folder: TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, str(ROOT))
        from microgpt.native import library

        command = library.compiler()
        if version == "editable" or command is None:
            return
        self.folder = TemporaryDirectory(prefix="microgpt-wheel-")  # until the wheel is written
        file = Path(self.folder.name) / library.CARRIED.name
        try:
            library.compile_to(file, command, library.PORTABLE)
        except library.Unavailable as error:
            self.app.display_warning(f"{error}: the wheel carries no library")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(file)] = f"microgpt/native/{file.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled: the wheel has it."""
        if self.folder is not None:
            self.folder.cleanup()
