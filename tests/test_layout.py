"""What must never appear in the tree."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Written in pieces, so that this file does not name what it looks for.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:wor" + r"k|roo" + r"t|hom" + r"e/\w+)/")
REGISTRIES = re.compile(
    "|".join([r"pyp" + r"i\.org", r"pythonhosted" + r"\.org", r"registry\." + r"npmjs", r"proxy\." + r"golang\.org"])
    + r"|index"
    + r"-url",
)


def tracked() -> list[Path]:
    try:
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the tree is not a git checkout, or git is not installed")
    return [path for name in names.decode().split("\0") if name and (path := ROOT / name).is_file()]


def hits(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in tracked()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_the_operator_folder_is_no_package_that_would_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_no_file_names_a_path_of_one_machine() -> None:
    assert hits(MACHINE_PATHS) == []


def test_no_file_names_a_package_registry() -> None:
    assert hits(REGISTRIES) == []


def test_every_target_that_the_readme_names_is_in_the_makefile() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)`", readme)) <= targets


def test_every_module_that_the_readme_maps_is_in_the_tree() -> None:
    there = {path.name for half in ("operator", "proxy") for path in (ROOT / half).rglob("*.py")}
    _, _, tree = (ROOT / "README.md").read_text().partition("## The tree")
    assert {name.rpartition("/")[2] for name in re.findall(r"`([\w/]+\.py)`", tree)} <= there


def pages() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def anchors(page: Path) -> set[str]:
    """Return what may stand behind a # in a link to a page, as hosts of repositories make it of its headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = []
    for page in pages():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
            path = (page.parent / target) if target else page
            if not path.exists() or (anchor and anchor not in anchors(path)):
                broken.append(f"{page.relative_to(ROOT)}: {target}#{anchor}")
    assert broken == []


def test_the_readme_leads_to_every_page_of_the_documentation() -> None:
    linked = set(re.findall(r"\]\((docs/[\w.-]+\.md)\)", (ROOT / "README.md").read_text()))
    assert {str(path.relative_to(ROOT)) for path in pages() if path.parent == ROOT / "docs"} == linked


def test_every_dependency_has_a_pinned_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wanted += [name for group in project["dependency-groups"].values() for name in group]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert {re.split(r"[<>=~!\[; ]", name)[0].lower().replace("_", "-") for name in wanted} <= pinned
