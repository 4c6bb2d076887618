"""The files and folders of a data folder that other users of the machine could read."""

import os
from pathlib import Path


def readable_by_others(data: Path) -> list[str]:
    """Paths in it that are not the owner's alone; only the folder itself where files cannot inherit that."""
    has_lists = "system.posix_acl_default" in os.listxattr(data)
    paths = [data, *data.rglob("*")] if has_lists else [data]
    return [str(path) for path in paths if not path.is_symlink() and path.stat().st_mode & 0o077]
