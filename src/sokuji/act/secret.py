"""The platform's own secret, and the keys derived from it.

The secret is one random file, so that roles in different processes agree on keys without an entry in `sokuji.toml`, which is under git.
Each purpose has its own key: nobody can derive one from another.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import struct
import zlib
from pathlib import Path

from sokuji.disk.private import make_private_folder
from sokuji.errors import ConfigError

_BYTES = 32
_CHECKSUM = struct.Struct("<I")  # files of earlier releases have none


class Secret:
    """Derives one key per purpose."""

    def __init__(self, master: bytes) -> None:
        self._master = master

    @classmethod
    def open(cls, path: Path) -> Secret:
        """Read the file `path`, which is created if it does not exist. Several processes may do so at once.

        Raises:
            ConfigError: the file is not a valid secret.
        """
        if not path.exists():
            make_private_folder(path.parent)
            draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                master = secrets.token_bytes(_BYTES)
                file.write(master + _checksum(master))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)  # never replaces: the first process wins, and the file is complete from the start
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        stored = path.read_bytes()
        master, checksum = stored[:_BYTES], stored[_BYTES:]
        if len(master) != _BYTES or checksum not in {b"", _checksum(master)}:
            raise ConfigError(
                f"{path} is damaged: it is not {_BYTES} bytes of a secret and their checksum; restore it, or remove it to get a new one"
            )
        return cls(master)

    def key(self, purpose: str) -> bytes:
        """The 32-byte key for one purpose."""
        return hmac.new(self._master, purpose.encode(), hashlib.sha256).digest()

    def server_key(self, dataset: str) -> str:
        """The key with which a site's server gets tokens for visitors and users of a dataset, and signs user ids.

        It must not be in pages.
        """
        return f"sk_{self.key(f'server {dataset}').hex()}"

    def webhook_secret(self, endpoint: str) -> str:
        """The secret with which the receiver at `endpoint` (scheme://host:port) checks signatures, in the form of Standard Webhooks."""
        return f"whsec_{base64.b64encode(self.key(f'webhook {endpoint}')).decode()}"


def _checksum(master: bytes) -> bytes:
    return _CHECKSUM.pack(zlib.crc32(master))
