"""The last good snapshot on disk: whole or not at all, and without keys where they could outlive the machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from certs import certificate
from eventually import eventually
from portway_proxy import codec, last_good
from portway_proxy.last_good import LastGood, in_memory
from portway_proxy.snapshot import Certificate, Endpoint, SharedKey, Snapshot, Upstream

SHOP = certificate("shop/web", "shop.example")
WIKI = certificate("wiki/web", "wiki.example")
WHOLE = Snapshot(
    upstreams=(Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 80),)),),
    certificates=(SHOP, WIKI),
    default_certificate="shop/web",
    affinity_key=SharedKey(b"secret of all proxies"),
)


@pytest.fixture
def memory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


async def keep(directory: Path, snapshot: Snapshot) -> None:
    kept = LastGood(directory)
    kept.note(snapshot)
    await kept.flush()


def everything_in(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


def modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


def without_keys(snapshot: Snapshot) -> Snapshot:
    return msgspec.structs.replace(snapshot, certificates=(), affinity_key=None)


def test_the_kernels_list_of_mounts_tells_what_is_in_memory(tmp_path: Path) -> None:
    assert in_memory(Path("/dev/shm"))
    assert not in_memory(tmp_path)
    assert not in_memory(Path("/proc/self"))
    assert not in_memory(tmp_path / "missing")


async def test_in_memory_everything_comes_back(memory: Path) -> None:
    await keep(memory, WHOLE)
    assert LastGood(memory).load() == WHOLE
    assert codec.digest(WHOLE) == codec.digest(LastGood(memory).load() or Snapshot())


async def test_on_a_disk_all_but_what_needs_a_key_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = tmp_path / "made" / "for" / "it"
    await keep(state, WHOLE)
    assert LastGood(state).load() == without_keys(WHOLE)
    assert [path.name for path in state.iterdir()] == ["snapshot"]
    assert "2 certificates of the last good snapshot are left out" in caplog.text
    assert state.stat().st_mode & 0o777 == 0o700


async def test_no_key_is_in_any_file_on_a_disk(tmp_path: Path) -> None:
    await keep(tmp_path, WHOLE)
    found = everything_in(tmp_path)
    assert b"PRIVATE KEY" not in found
    assert b"secret of all proxies" not in found


async def test_keys_that_an_earlier_mount_left_on_a_disk_are_removed(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"PRIVATE KEY")
    await keep(tmp_path, WHOLE)
    assert not (tmp_path / "keys").exists()


async def test_both_files_are_for_their_owner_alone(memory: Path) -> None:
    await keep(memory, WHOLE)
    assert modes(memory) == {"keys": 0o600, "snapshot": 0o600}


async def test_a_key_goes_with_the_chain_that_it_belongs_to_and_with_no_other(memory: Path) -> None:
    await keep(memory, WHOLE)
    renewed = certificate("shop/web", "shop.example")
    other = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        # The proxy died between the two files.
        await keep(other, msgspec.structs.replace(WHOLE, certificates=(renewed, WIKI)))
        shutil.copy(other / "snapshot", memory / "snapshot")
    finally:
        shutil.rmtree(other)
    found = LastGood(memory).load()
    assert found is not None
    assert found.certificates == (WIKI,)


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x00" * 100, codec.encode(WHOLE)[:-1], codec.encode(WHOLE) + b"x"])
def test_a_file_that_is_damaged_is_none(tmp_path: Path, junk: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "snapshot").write_bytes(junk)
    assert LastGood(tmp_path).load() is None
    assert "cannot be used" in caplog.text


async def test_damaged_keys_cost_the_certificates_alone(memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    await keep(memory, WHOLE)
    (memory / "keys").write_bytes(b"PRIVATE KEY")
    assert LastGood(memory).load() == without_keys(WHOLE)
    assert "PRIVATE" not in caplog.text


def test_a_snapshot_of_another_schema_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    envelope = msgspec.msgpack.decode(codec.encode(WHOLE))
    (tmp_path / "snapshot").write_bytes(msgspec.msgpack.encode({**envelope, "schema": 99}))
    assert LastGood(tmp_path).load() is None
    assert "schema version 99" in caplog.text


def test_where_nothing_was_kept_there_is_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert LastGood(tmp_path / "missing").load() is None
    assert not caplog.text


async def test_a_full_disk_is_said_once_and_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await keep(tmp_path, Snapshot())
    kept = LastGood(tmp_path)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(last_good, "_write", full)
        for _ in range(3):
            kept.note(WHOLE)
            await kept.flush()
    assert caplog.text.count("No space left on device") == 1
    assert LastGood(tmp_path).load() == Snapshot()


async def test_a_write_that_breaks_off_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await keep(tmp_path, Snapshot())

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        await keep(tmp_path, WHOLE)
    assert LastGood(tmp_path).load() == Snapshot()
    await keep(tmp_path, WHOLE)
    assert LastGood(tmp_path).load() == without_keys(WHOLE)


async def test_many_changes_are_few_writes_and_the_last_one_is_among_them(tmp_path: Path) -> None:
    kept = LastGood(tmp_path, pause=0.2)
    written: list[int] = []
    running = asyncio.get_running_loop().create_task(kept.run())
    for number in range(50):
        kept.note(Snapshot(default_certificate=str(number)))
        await asyncio.sleep(0.005)
        if (tmp_path / "snapshot").exists():
            written.append((tmp_path / "snapshot").stat().st_ino)
    last = Snapshot(default_certificate="49")
    await eventually(lambda: LastGood(tmp_path).load() == last)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert len(set(written)) <= 4


def test_certificates_are_not_shown_by_what_is_logged_of_them() -> None:
    assert isinstance(WHOLE.certificates[0], Certificate)
    assert "PRIVATE KEY" not in repr(WHOLE)


async def test_who_ends_while_it_is_written_waits_until_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    save = LastGood._save

    def slowly(self: LastGood, snapshot: Snapshot) -> None:
        begun.set()
        go_on.wait(10)
        save(self, snapshot)

    monkeypatch.setattr(LastGood, "_save", slowly)
    kept = LastGood(tmp_path / "state")
    kept.note(WHOLE)
    running = asyncio.get_running_loop().create_task(kept.run())
    await eventually(begun.is_set, what="it is being written")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    await kept.flush()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["snapshot"]
