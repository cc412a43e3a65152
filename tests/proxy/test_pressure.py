"""Control groups as files in a folder: what the kernel shows of versions 1 and 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from portway_proxy.pressure import Group, Pressure

MIB = 1 << 20


def group(root: Path, lines: str, folder: str, files: dict[str, str]) -> None:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text(lines)
    where = root / "sys/fs/cgroup" / folder
    where.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (where / name).write_text(f"{text}\n")


def version_1(limit: int, used: int = 0, cached: int = 0) -> dict[str, str]:
    stat = f"inactive_file 7\ntotal_inactive_file {cached}\ntotal_active_file 0\ntotal_rss 1"
    return {"memory.limit_in_bytes": str(limit), "memory.usage_in_bytes": str(used), "memory.stat": stat}


def version_2(limit: str, used: int = 0, cached: int = 0) -> dict[str, str]:
    return {
        "memory.max": limit,
        "memory.current": str(used),
        "memory.stat": f"anon 1\ninactive_file {cached}\nactive_file 0\nslab 2",
    }


def limit(root: Path) -> int:
    found = Group.find(root)
    if found is None:
        return 0
    found.close()
    return found.limit


def test_a_limit_of_version_2_is_found(tmp_path: Path) -> None:
    group(tmp_path, "0::/kubepods/pod\n", "kubepods/pod", version_2(str(200 * MIB)))
    assert limit(tmp_path) == 200 * MIB


def test_in_a_container_the_own_group_is_the_top(tmp_path: Path) -> None:
    group(tmp_path, "0::/\n", "", version_2(str(100 * MIB)))
    assert limit(tmp_path) == 100 * MIB


def test_a_limit_of_version_1_is_found_beside_other_controllers(tmp_path: Path) -> None:
    group(tmp_path, "5:cpu:/x\n4:memory:/x/y\n0::/\n", "memory/x/y", version_1(200 * MIB))
    assert limit(tmp_path) == 200 * MIB


def test_a_container_whose_group_is_named_as_its_host_does_sees_the_top(tmp_path: Path) -> None:
    group(tmp_path, "4:memory:/docker/abc\n", "memory", version_1(50 * MIB))
    assert limit(tmp_path) == 50 * MIB


def test_the_tightest_limit_of_all_groups_above_counts(tmp_path: Path) -> None:
    group(tmp_path, "0::/a/b\n", "a/b", version_2("max"))
    group(tmp_path, "0::/a/b\n", "a", version_2(str(300 * MIB)))
    assert limit(tmp_path) == 300 * MIB


@pytest.mark.parametrize("files", [version_2("max"), {}])
def test_without_a_limit_there_is_no_group(tmp_path: Path, files: dict[str, str]) -> None:
    group(tmp_path, "0::/a\n", "a", files)
    assert limit(tmp_path) == 0


def test_version_1_says_none_as_a_number_beyond_all_memory(tmp_path: Path) -> None:
    group(tmp_path, "4:memory:/\n", "memory", version_1(0x7FFFFFFFFFFFF000))
    assert limit(tmp_path) == 0


def test_without_proc_there_is_no_group(tmp_path: Path) -> None:
    assert limit(tmp_path) == 0


@pytest.mark.parametrize(
    ("lines", "folder", "files"),
    [
        ("0::/\n", "", version_2(str(100 * MIB), 80 * MIB, 30 * MIB)),
        ("4:memory:/\n", "memory", version_1(100 * MIB, 80 * MIB, 30 * MIB)),
    ],
)
def test_files_that_the_kernel_can_drop_are_no_pressure(
    tmp_path: Path, lines: str, folder: str, files: dict[str, str]
) -> None:
    group(tmp_path, lines, folder, files)
    pressure = Pressure(0, Group.find(tmp_path))
    assert pressure.share() == 0.5
    pressure.close()


def test_the_share_of_the_process_counts_when_it_is_more() -> None:
    pressure = Pressure(0, None)
    assert pressure.share() == 0
    pressure.limit = 1 << 40
    assert 0 < pressure.share() < 0.01
    pressure.limit = 1 << 20
    assert pressure.share() > 1
    pressure.close()
