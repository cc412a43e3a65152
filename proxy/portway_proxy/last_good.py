"""The last snapshot that was served, on disk: what a proxy begins with when it restarts and the operator is away.

Private keys are in a file of their own, and only where the directory is in memory; nothing here ever logs one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
from pathlib import Path
from typing import Final

import msgspec

from portway_proxy import codec
from portway_proxy.errors import BadSnapshot
from portway_proxy.snapshot import Certificate, Keyring, SharedKey, Snapshot

__all__ = ["PAUSE", "LastGood", "in_memory"]

_log = logging.getLogger(__name__)

PAUSE: Final = 5.0
"""Seconds between two writes: endpoints may change fifty times a second, and a disk wears out."""

_AFFINITY: Final = "affinity"  # No hash is called that.
_MEMORY: Final = ("tmpfs", "ramfs")

_keys = msgspec.msgpack.Decoder(dict[str, bytes])


def in_memory(directory: Path) -> bool:
    """Return whether what is written into `directory` stays in memory; False where that cannot be told."""
    try:
        device = directory.stat().st_dev
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace")
    except OSError:
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        # proc(5): the device is the third field, the type of the file system the first one after a lone dash.
        mount, _, system = line.partition(" - ")
        if mount.split()[2] == wanted:
            return system.split()[0] in _MEMORY
    return False


class LastGood:
    """The files of one proxy in `directory`, which is made when it is missing.

    `note` says what is served; `run` writes it, at most every `pause` seconds.
    """

    def __init__(self, directory: Path, pause: float = PAUSE) -> None:
        self._directory = directory
        self._snapshot_file = directory / "snapshot"
        self._key_file = directory / "keys"
        self._pause = pause
        self._snapshot: Snapshot | None = None
        self._noted = asyncio.Event()
        self._saving: asyncio.Future[None] | None = None
        self._writing = threading.Lock()
        self._trouble = ""
        self._said = False

    def load(self) -> Snapshot | None:
        """Return what was served last, or None. Certificates whose key is not known are left out."""
        try:
            snapshot, _ = codec.decode(self._snapshot_file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, BadSnapshot) as error:
            _log.error("the last good snapshot cannot be used: %s", error)
            return None
        keys = self._load_keys()
        kept = tuple(
            msgspec.structs.replace(certificate, key=key)
            for certificate in snapshot.certificates
            if (key := keys.get(_name(certificate))) is not None
        )
        if lost := len(snapshot.certificates) - len(kept):
            _log.warning("%d certificates of the last good snapshot are left out: their keys were not kept", lost)
        affinity = SharedKey(keys[_AFFINITY]) if _AFFINITY in keys else None
        keyrings = tuple(_with_key(keyring, keys.get(_name(keyring))) for keyring in snapshot.keyrings)
        return msgspec.structs.replace(snapshot, certificates=kept, affinity_key=affinity, keyrings=keyrings)

    def note(self, snapshot: Snapshot) -> None:
        """Remember that `snapshot` is served; it is written by `run`."""
        self._snapshot = snapshot
        self._noted.set()

    async def run(self) -> None:
        """Write what is noted, for ever."""
        while True:
            await self._noted.wait()
            await self.flush()
            await asyncio.sleep(self._pause)

    async def flush(self) -> None:
        """Write what was noted and is not written yet; what is being written already is waited for."""
        if self._noted.is_set() and self._snapshot is not None:
            self._noted.clear()
            self._saving = asyncio.get_running_loop().run_in_executor(None, self._save, self._snapshot)
        if self._saving is not None:
            # Whoever waits may be cancelled; the thread goes on, and the next flush waits for it.
            await asyncio.shield(self._saving)

    def _save(self, snapshot: Snapshot) -> None:
        with self._writing:
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._save_keys(snapshot)
                _write(self._snapshot_file, codec.encode(_without_keys(snapshot)))
            except OSError as error:
                # Once, not every five seconds: a disk stays full for hours.
                if self._trouble != (trouble := f"{error.strerror}: {error.filename}"):
                    _log.error("the last good snapshot cannot be kept: %s", trouble)
                self._trouble = trouble
            else:
                self._trouble = ""

    def _save_keys(self, snapshot: Snapshot) -> None:
        if in_memory(self._directory):
            keys = {_name(certificate): certificate.key for certificate in snapshot.certificates}
            keys |= {_name(keyring): keyring.key for keyring in snapshot.keyrings if keyring.key}
            if snapshot.affinity_key is not None:
                keys[_AFFINITY] = snapshot.affinity_key.value
            _write(self._key_file, msgspec.msgpack.encode(keys))
            return
        self._key_file.unlink(missing_ok=True)
        if snapshot.certificates and not self._said:
            self._said = True
            _log.warning(
                "private keys are not kept, because %s is not in memory: a restart without the operator serves"
                " no certificates",
                self._directory,
            )

    def _load_keys(self) -> dict[str, bytes]:
        try:
            return _keys.decode(self._key_file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError):
            # Without the reason: it could quote what is in there.
            _log.error("the keys of the last good snapshot cannot be read")
            return {}


def _without_keys(snapshot: Snapshot) -> Snapshot:
    bare = tuple(msgspec.structs.replace(certificate, key=b"") for certificate in snapshot.certificates)
    keyrings = tuple(msgspec.structs.replace(keyring, key=b"") for keyring in snapshot.keyrings)
    return msgspec.structs.replace(snapshot, certificates=bare, affinity_key=None, keyrings=keyrings)


def _with_key(keyring: Keyring, key: bytes | None) -> Keyring:
    """Return the keyring with its key, or without the chain that is of no use: endpoints that ask for one refuse us."""
    if key is None:
        return msgspec.structs.replace(keyring, chain=b"")
    return msgspec.structs.replace(keyring, key=key)


def _name(owner: Certificate | Keyring) -> str:
    """Return what a key is filed under: the chain that it belongs to, whatever the certificate is called."""
    return hashlib.sha256(owner.chain).hexdigest()


def _write(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`: all of it, or what was there before."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(data)
        file.flush()
        os.fsync(fd)
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
