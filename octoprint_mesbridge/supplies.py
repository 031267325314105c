"""What OctoPrint says of files and spools.

In flow OctoPrint's own objects (file manager, plugin manager, settings) and its folder of uploads; out flow the
answers of `stock.Supplies`.

The folder is read here, because OctoPrint's list is made for showing it all: with 5,000 files and a new one it costs
0.4 s of 1.11 and 2.5 s of 2.0, and the reading of names and times 0.03 s. The metadata of the newest are asked of
OctoPrint, which holds them in memory (0.01 s). Figures of a shared PC, to be read as ratios.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bridge import wire

from .printables import Printable, files_record
from .spools import PLUGINS

_LOCAL = "local"


class OctoPrintSupplies:
    """`stock.Supplies` over the objects that OctoPrint injects; `is_machine_code` judges a file by its name."""

    def __init__(
        self, file_manager: Any, plugin_manager: Any, settings: Any, is_machine_code: Callable[[str], bool]
    ) -> None:
        self._file_manager = file_manager
        self._plugin_manager = plugin_manager
        self._settings = settings
        self._is_machine_code = is_machine_code

    def files(self) -> dict[str, Any]:
        """The wire's ``files``; where they are not to be told, an empty list, so that the bridge forgets them.

        Raises `OSError` when the folder of uploads cannot be read.
        """
        if not self._settings.get_boolean(["tell_files"]):
            return files_record([])
        root = Path(self._file_manager.path_on_disk(_LOCAL, ""))
        newest = heapq.nlargest(wire.MAX_FILES, printables(root, self._is_machine_code))
        return files_record((one, self._file_manager.get_metadata(_LOCAL, one.path)) for one in newest)

    def spool_settings(self) -> Mapping[str, Any]:
        return {
            plugin.identifier: self._settings.global_get(["plugins", plugin.identifier, plugin.setting])
            for plugin in PLUGINS
            if self._plugin_manager.get_plugin_info(plugin.identifier, require_enabled=True) is not None
        }


def printables(root: Path, is_machine_code: Callable[[str], bool]) -> Iterator[Printable]:
    """The files of machine code below `root`, in no order, without what is hidden, as OctoPrint does.

    What goes away meanwhile is left out. Raises `OSError` when `root` itself cannot be read.
    """
    entries = _entries(root)
    folders = [""]
    seen = {_identity(root)}
    while folders:
        prefix = folders.pop()
        if prefix:
            try:
                entries = _entries(root / prefix)
            except OSError:
                continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    identity = _identity(Path(entry.path))  # a link may lead back
                    if identity not in seen:
                        seen.add(identity)
                        folders.append(f"{prefix}{entry.name}/")
                elif is_machine_code(entry.name):
                    found = entry.stat()
                    yield Printable(found.st_mtime, prefix + entry.name, found.st_size)
            except OSError:
                continue


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """All at once, so that no more than one folder is open at a time."""
    with os.scandir(folder) as entries:
        return list(entries)


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino
