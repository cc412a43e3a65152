"""`sources/files.py`, with `folders` and `manifest`: files to a store, whatever happens to the files."""

from __future__ import annotations

import asyncio
import os
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portway_operator.sources import files
from portway_operator.sources.files import FileSource, Unreadable
from portway_operator.store import ObjectStore
from portway_proxy.history import Cause
from portway_proxy.snapshot import Origin


def service(name: str, port: int = 80, namespace: str = "shop") -> str:
    return f"""\
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: {namespace}
spec:
  ports:
  - port: {port}
"""


BROKEN = "a: 1\n b: [\n"


class Files:
    """A folder, the source that reads it, and what came of it."""

    def __init__(self, folder: Path, *paths: Path) -> None:
        self.folder = folder
        self.store = ObjectStore()
        self.source = FileSource(paths or [folder], self.store)
        self.changes = 0
        self.causes: list[Cause] = []

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    @property
    def ports(self) -> dict[str, int]:
        return {key[1]: found.ports[0].number for key, found in sorted(self.store.services.items())}

    @property
    def problems(self) -> list[str]:
        return [str(problem).replace(f"{self.folder}/", "") for problem in self.store.reported]

    def load(self) -> Files:
        self.source.load()
        return self

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        self.load()

        def changed() -> None:
            self.changes += 1

        task = asyncio.get_running_loop().create_task(self.source.follow(changed, self.causes.append))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not claim():  # noqa: ASYNC110 - files tell nobody
                await asyncio.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Files:
    return Files(tmp_path)


# --- reading


def test_folders_are_read_with_all_that_is_below_them(folder: Files) -> None:
    folder.write("a.yaml", service("a"))
    folder.write("deep/er/b.yml", service("b"))
    folder.write("c.json", '{"apiVersion":"v1","kind":"Service","metadata":{"name":"c"},"spec":{"ports":[{"port":1}]}}')
    assert folder.load().ports == {"a": 80, "b": 80, "c": 1}


@pytest.mark.parametrize(
    "name", [".a.yaml", ".git/a.yaml", "..2026_01_01/a.yaml", "a.yaml~", "a.yaml.swp", "#a.yaml#", "README.md", "a.txt"]
)
def test_what_is_hidden_or_has_another_ending_is_left_out(folder: Files, name: str) -> None:
    folder.write(name, service("a"))
    folder.load()
    assert (folder.ports, folder.problems) == ({}, [])


def test_a_file_that_is_named_itself_may_end_with_anything(tmp_path: Path) -> None:
    path = tmp_path / "manifest.txt"
    path.write_text(service("a"))
    assert Files(tmp_path, path).load().ports == {"a": 80}


def test_lists_are_taken_apart(folder: Files) -> None:
    def item(name: str, indent: int) -> str:
        return textwrap.indent(service(name), " " * indent).strip()

    folder.write(
        "a.yaml",
        f"apiVersion: v1\nkind: List\nitems:\n- {item('b', 2)}\n"
        f"- kind: List\n  apiVersion: v1\n  items:\n  - {item('c', 4)}\n",
    )
    folder.load()
    assert folder.problems == []
    assert folder.ports == {"b": 80, "c": 80}


def test_several_documents_and_empty_ones_are_read(folder: Files) -> None:
    folder.write("a.yaml", f"---\n---\n{service('a')}---\n# nothing\n---\n{service('b')}")
    assert folder.load().ports == {"a": 80, "b": 80}
    assert folder.problems == []


def test_kinds_that_portway_does_not_read_are_passed_over(folder: Files) -> None:
    folder.write("a.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n")
    assert folder.load().problems == []


def test_a_creation_time_without_quotes_is_a_time(folder: Files) -> None:
    text = service("a").replace("  name:", "  creationTimestamp: 2026-01-31T12:00:00Z\n  name:")
    folder.write("a.yaml", text)
    folder.load()
    assert folder.store.services["shop", "a"].meta.created == 1769860800.0


def test_the_later_path_wins_and_says_so(tmp_path: Path) -> None:
    folder = Files(tmp_path, tmp_path / "2", tmp_path / "1")
    folder.write("1/a.yaml", service("a", 1))
    folder.write("2/a.yaml", service("a", 2))
    assert folder.load().ports == {"a": 1}
    assert folder.problems == [
        (
            "File 2/a.yaml:1 document 1: Service shop/a is defined again at 1/a.yaml:1. The later one is used. "
            "Remove one of them."
        )
    ]


def test_in_a_folder_the_later_name_wins(folder: Files) -> None:
    folder.write("a.yaml", service("a", 1))
    folder.write("b.yaml", service("a", 2))
    assert folder.load().ports == {"a": 2}


def test_a_file_named_again_after_its_folder_wins(tmp_path: Path) -> None:
    folder = Files(tmp_path, tmp_path, tmp_path / "a.yaml")
    folder.write("a.yaml", service("a", 1))
    folder.write("b.yaml", service("a", 2))
    assert folder.load().ports == {"a": 1}


def test_in_a_file_the_later_document_wins(folder: Files) -> None:
    folder.write("a.yaml", f"{service('a', 1)}---\n{service('a', 2)}")
    assert folder.load().ports == {"a": 2}
    assert folder.problems == [
        (
            "File a.yaml:1 document 1: Service shop/a is defined again at a.yaml:10. The later one is used. "
            "Remove one of them."
        )
    ]


# --- what cannot be read


def test_a_path_that_does_not_exist_cannot_be_read_at_all(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"nowhere does not exist\."):
        Files(tmp_path, tmp_path / "nowhere").load()


def test_what_is_neither_file_nor_folder_cannot_be_read_at_all(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unreadable, match="neither a file nor a folder"):
        Files(tmp_path, tmp_path / "pipe").load()


def test_a_pipe_in_a_folder_is_passed_over(folder: Files) -> None:
    os.mkfifo(folder.folder / "pipe.yaml")
    folder.write("a.yaml", service("a"))
    assert folder.load().ports == {"a": 80}


def test_a_link_to_nothing_is_passed_over(folder: Files) -> None:
    (folder.folder / "gone.yaml").symlink_to("nowhere.yaml")
    folder.write("a.yaml", service("a"))
    assert folder.load().ports == {"a": 80}


def test_a_folder_that_links_to_itself_is_read_once(folder: Files) -> None:
    folder.write("a.yaml", service("a"))
    (folder.folder / "loop").symlink_to(folder.folder)
    assert folder.load().ports == {"a": 80}
    assert folder.problems == []


def test_a_file_that_does_not_parse_says_file_and_line_and_costs_itself_only(folder: Files) -> None:
    folder.write("a.yaml", service("a"))
    folder.write("b.yaml", BROKEN)
    assert folder.load().ports == {"a": 80}
    assert folder.problems == [
        (
            "File b.yaml:2: The text cannot be read: mapping values are not allowed in this context. "
            "Nothing in it is used. Mend it and save."
        )
    ]


def test_a_malformed_object_says_file_line_document_and_field_and_costs_itself_only(folder: Files) -> None:
    folder.write("a.yaml", service("a") + "---\n" + service("b").replace("  - port: 80", "    port: 80"))
    assert folder.load().ports == {"a": 80}
    (problem,) = folder.problems
    assert problem.startswith("File a.yaml:16 document 2 Service shop/b spec.ports: It is a mapping, not a list.")
    assert "The object is left out." in problem


def test_the_field_of_an_object_in_a_list_is_named_from_the_list_on(folder: Files) -> None:
    folder.write("a.yaml", "kind: List\napiVersion: v1\nitems:\n- kind: Service\n  apiVersion: v1\n  metadata: 5\n")
    (problem,) = folder.load().problems
    assert problem.startswith("File a.yaml:6 document 1 Service default/? items[0].metadata: It is a number")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("just words\n", "It is no object: it has no fields."),
        ("replicas: 1\n", "It is no object of Kubernetes."),
        ("kind: Service\nmetadata: {name: x}\n", "It is no object of Kubernetes."),
    ],
)
def test_a_document_that_is_no_object_is_a_problem(folder: Files, text: str, message: str) -> None:
    folder.write("a.yaml", text)
    (problem,) = folder.load().problems
    assert problem.startswith(f"File a.yaml:1 document 1: {message}")


def test_an_annotation_that_yaml_reads_as_a_boolean_names_its_field(folder: Files) -> None:
    text = service("a").replace("  name:", "  annotations:\n    portway.dev/tcp-ports: no\n  name:")
    folder.write("a.yaml", text)
    (problem,) = folder.load().problems
    assert problem.startswith(
        "File a.yaml:5 document 1 Service shop/a metadata.annotations[portway.dev/tcp-ports]: It is a boolean"
    )


def test_the_place_of_a_field_is_known(folder: Files) -> None:
    folder.write("a.yaml", f"---\n{service('a')}")
    folder.load()
    place = folder.source.place(Origin("Service", "shop", "a", "spec.ports[0].port"))
    assert place == f"{folder.folder}/a.yaml:9"
    assert folder.source.place(Origin("Service", "shop", "other")) == ""
    assert folder.source.place(Origin("File", "", "a.yaml:1")) == ""


# --- following


async def test_new_changed_and_deleted_files_are_followed(folder: Files) -> None:
    path = folder.write("a.yaml", service("a"))
    async with folder.followed():
        folder.write("b.yaml", service("b"))
        await folder.until(lambda: folder.ports == {"a": 80, "b": 80})
        path.write_text(service("a", 81))
        await folder.until(lambda: folder.ports == {"a": 81, "b": 80})
        path.unlink()
        await folder.until(lambda: folder.ports == {"b": 80})
        folder.write("new/folder/c.yaml", service("c"))
        await folder.until(lambda: folder.ports == {"b": 80, "c": 80})
        folder.write("new/folder/c.yaml", service("c", 82))
        await folder.until(lambda: folder.ports == {"b": 80, "c": 82})


async def test_a_file_that_no_longer_parses_keeps_its_last_good_version(folder: Files) -> None:
    path = folder.write("a.yaml", service("a") + "---\n" + service("b"))
    async with folder.followed():
        path.write_text(service("a", 81) + "---\n" + BROKEN)
        await folder.until(lambda: len(folder.problems) == 1)
        assert folder.problems[0].startswith("File a.yaml:11: The text cannot be read: mapping values")
        assert "The version read before stays." in folder.problems[0]
        assert folder.ports == {"a": 80, "b": 80}
        path.write_text(service("a", 82))
        await folder.until(lambda: folder.ports == {"a": 82})
        assert folder.problems == []


async def test_a_malformed_object_keeps_its_last_good_version_and_the_rest_of_the_file_changes(folder: Files) -> None:
    path = folder.write("a.yaml", service("a") + "---\n" + service("b"))
    async with folder.followed():
        path.write_text(
            service("a", 81) + "---\n" + service("b").replace("name: b", "name: b\n  labels: {}\n  annotations: 5")
        )
        await folder.until(lambda: folder.ports["a"] == 81)
        assert folder.ports == {"a": 81, "b": 80}
        path.write_text(service("a", 82) + "---\n" + service("b").replace("name: b", "name: b\n  annotations: []"))
        await folder.until(lambda: folder.ports["a"] == 82)
        assert folder.ports == {"a": 82, "b": 80}
        assert len(folder.problems) == 1
        path.write_text(service("a", 83))
        await folder.until(lambda: folder.ports == {"a": 83})
        assert folder.problems == []


async def test_a_file_that_is_gone_or_empty_for_a_moment_is_still_believed(
    folder: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 60.0)
    path = folder.write("a.yaml", service("a"))
    removed: list[str] = []
    async with folder.followed():
        for version in range(81, 84):
            path.rename(path.with_suffix(".yaml~"))
            folder.write("z.yaml", service("z", version))
            await asyncio.sleep(0.05)
            path.write_text("")
            await asyncio.sleep(0.05)
            removed += [] if "a" in folder.ports else ["gone"]
            path.write_text(service("a", version))
            await folder.until(lambda version=version: folder.ports == {"a": version, "z": version})  # type: ignore[misc]
    assert removed == []


async def test_a_file_that_stays_empty_loses_its_objects(folder: Files) -> None:
    path = folder.write("a.yaml", service("a"))
    async with folder.followed():
        path.write_text("")
        await folder.until(lambda: folder.ports == {})


async def test_a_file_put_in_place_by_a_rename_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(service("a"))
    folder = Files(tmp_path, path)
    async with folder.followed():
        for version in range(81, 86):
            new = tmp_path / ".a.yaml.tmp"
            new.write_text(service("a", version))
            new.rename(path)
            await folder.until(lambda version=version: folder.ports == {"a": version})  # type: ignore[misc]


async def test_beside_a_file_that_is_named_itself_nothing_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(service("a"))
    folder = Files(tmp_path, path)
    async with folder.followed():
        folder.write("b.yaml", service("b"))
        path.write_text(service("a", 81))
        await folder.until(lambda: folder.ports == {"a": 81})
        assert folder.changes == 1


@pytest.mark.parametrize("path", [".", "a.yaml"])
async def test_the_links_of_a_mounted_configmap_are_followed(tmp_path: Path, path: str) -> None:
    def publish(version: int) -> None:
        """Put a version in place as the kubelet does (its `AtomicWriter`)."""
        data = tmp_path / f"..version_{version}"
        data.mkdir()
        (data / "a.yaml").write_text(service("a", version))
        new = tmp_path / "..data_tmp"
        new.symlink_to(data.name)
        new.rename(tmp_path / "..data")
        if version > 81:
            old = tmp_path / f"..version_{version - 1}"
            (old / "a.yaml").unlink()
            old.rmdir()

    publish(81)
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    folder = Files(tmp_path, tmp_path / path)
    async with folder.followed():
        for version in range(82, 85):
            publish(version)
            await folder.until(lambda version=version: folder.ports == {"a": version})  # type: ignore[misc]


async def test_a_link_to_a_folder_may_be_pointed_elsewhere(tmp_path: Path) -> None:
    for release in (1, 2):
        (tmp_path / f"r{release}").mkdir()
        (tmp_path / f"r{release}" / "a.yaml").write_text(service("a", release))
    link = tmp_path / "current"
    link.symlink_to("r1")
    folder = Files(tmp_path, link)
    async with folder.followed():
        new = tmp_path / "next"
        new.symlink_to("r2")
        new.rename(link)
        await folder.until(lambda: folder.ports == {"a": 2})
        (tmp_path / "r2" / "a.yaml").write_text(service("a", 3))
        await folder.until(lambda: folder.ports == {"a": 3})


async def test_a_folder_may_be_put_in_anothers_place(tmp_path: Path) -> None:
    folder = Files(tmp_path, tmp_path / "live")
    folder.write("live/a.yaml", service("a", 1))
    async with folder.followed():
        folder.write("next/a.yaml", service("a", 2))
        (tmp_path / "live").rename(tmp_path / "old")
        (tmp_path / "next").rename(tmp_path / "live")
        await folder.until(lambda: folder.ports == {"a": 2})
        folder.write("live/a.yaml", service("a", 3))
        await folder.until(lambda: folder.ports == {"a": 3})


async def test_a_folder_that_went_away_and_came_back_is_followed(tmp_path: Path) -> None:
    folder = Files(tmp_path, tmp_path / "live")
    path = folder.write("live/a.yaml", service("a", 1))
    async with folder.followed():
        path.unlink()
        path.parent.rmdir()
        await folder.until(lambda: folder.ports == {})
        folder.write("live/a.yaml", service("a", 2))
        await folder.until(lambda: folder.ports == {"a": 2})


async def test_a_change_that_changes_nothing_is_no_change(folder: Files) -> None:
    path = folder.write("a.yaml", service("a"))
    async with folder.followed():
        path.write_text("# a comment\n" + service("a").replace("  namespace", "  labels: {a: b}\n  namespace"))
        folder.write("b.yaml", service("b"))
        await folder.until(lambda: "b" in folder.ports)
        assert folder.changes == 1


async def test_two_versions_of_one_size_within_one_tick_are_told_apart(folder: Files) -> None:
    path = folder.write("a.yaml", service("a", 10))
    async with folder.followed():
        for version in range(11, 99):
            path.write_text(service("a", version))
        await folder.until(lambda: folder.ports == {"a": 98})


async def test_each_change_tells_the_object_its_place_and_when_the_file_was_written(folder: Files) -> None:
    path = folder.write("a.yaml", f"{service('a')}---\n{service('b')}")
    async with folder.followed():
        folder.write("b.yaml", service("c"))
        await folder.until(lambda: "c" in folder.ports)
        path.write_text(service("b", 81))
        await folder.until(lambda: folder.ports == {"b": 81, "c": 80})
        (folder.folder / "b.yaml").unlink()
        await folder.until(lambda: folder.ports == {"b": 81})
        path.write_text(BROKEN)
        await folder.until(lambda: folder.problems != [])
    told = [
        (one.kind, one.name.replace(str(path), "a.yaml"), one.action, Path(one.place).name) for one in folder.causes
    ]
    assert told == [
        ("Service", "c", "created", "b.yaml:1"),
        ("Service", "a", "deleted", "a.yaml:1"),
        ("Service", "b", "changed", "a.yaml:1"),
        ("Service", "c", "deleted", "b.yaml:1"),
        ("File", "a.yaml", "changed", ""),
    ]
    assert {one.manager for one in folder.causes} == {"file"}
    assert folder.causes[-1].at.timestamp() == pytest.approx(path.stat().st_mtime)
