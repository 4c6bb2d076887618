"""Folders that only their owner can read: the platform stores personal data.

The folder's own mode keeps others out of everything below it. If the file system has access control lists, the folder also gets a default
one. All files made in it inherit that list, whichever library or thread makes them, so they stay private when they are copied elsewhere.
The process's umask is not changed: it belongs to the program that embeds the platform.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path

from sokuji.disk.files import make_folder, sync_folder

_PRIVATE = 0o700
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_DEFAULT_ACL = "system.posix_acl_default"
# Version 2, then tag, permissions and id of the owner (7: all), the group and others (0: none): acl(5), linux/posix_acl_xattr.h.
_OWNER_ONLY = struct.pack("<I" + "HHI" * 3, 2, 0x01, 7, 0xFFFFFFFF, 0x04, 0, 0xFFFFFFFF, 0x20, 0, 0xFFFFFFFF)


def make_private_folder(path: Path) -> None:
    """Create `path`, durably, for its owner alone. A folder with content is not changed; `is_private` tells its state."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=_PRIVATE, exist_ok=True)
        sync_folder(path.parent)
    elif is_private(path) or path.stat().st_uid != os.geteuid() or any(path.iterdir()):
        return
    path.chmod(_PRIVATE)
    if hasattr(os, "setxattr"):
        try:
            os.setxattr(path, _DEFAULT_ACL, _OWNER_ONLY)
        except OSError as error:
            if error.errno not in {errno.ENOTSUP, errno.EOPNOTSUPP}:
                raise


def is_private(path: Path) -> bool:
    """Whether only the owner of the folder `path` can read it."""
    return not path.stat().st_mode & _OTHERS
