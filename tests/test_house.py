"""The house itself: what the pages promise exists and is current, the pins hold no address, imports stand where they belong."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import afina
from afina.cli.main import COMMANDS
from tools import docs, translations

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src" / "afina").rglob("*.py"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HEAVY = ("torch", "transformers", "numpy", "tokenizers", "safetensors", "gguf", "xllamacpp", "huggingface_hub")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# ── what is installed ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("file", ["base.txt", "dev.txt", "torch.txt"])
def test_a_lock_holds_versions_and_hashes_and_no_address(file: str) -> None:
    lines = (ROOT / "requirements" / file).read_text(encoding="utf-8").splitlines()
    pattern = re.compile(r"[a-z0-9-]+==[\w.+]+( ; [^\\]+)?( \\)?|    --hash=sha256:[0-9a-f]{64}( \\)?|    #.*|#.*")
    assert [line for line in lines if not pattern.fullmatch(line)] == []
    assert [line for line in lines if "://" in line or " /" in line or "@" in line] == []


def test_the_locks_hold_every_package_that_the_project_asks_for() -> None:
    def names(file: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / file).read_text(encoding="utf-8"), re.MULTILINE))

    def asked(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=!~\[ ]", line)[0].lower().replace("_", "-") for line in requirements} - {"torch"}

    project = PROJECT["project"]
    assert asked(project["dependencies"]) <= names("base.txt")
    assert asked(project["optional-dependencies"]["dev"]) | names("base.txt") <= names("dev.txt")
    assert "torch" not in names("dev.txt")


def test_every_extra_that_a_text_names_exists() -> None:
    extras = set(PROJECT["project"]["optional-dependencies"])
    for path in [*SOURCES, *PAGES]:
        found = re.findall(r"(?:afina|\.)\[([a-z]+)\]", path.read_text(encoding="utf-8"))
        assert set(found) <= extras, named(path)


def test_the_version_stands_in_one_place_and_on_top_of_the_change_log() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first is not None
    assert first[1] == afina.__version__


def test_ci_runs_as_a_program() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


# ── what is written about it ──────────────────────────────────────────────────────────────────────────────────────────


def code_of(page: Path) -> Iterator[str]:
    """What stands in code on a page: between single backquotes, and the lines of the blocks."""
    text = page.read_text(encoding="utf-8")
    for number, part in enumerate(re.split(r"^```.*$", text, flags=re.MULTILINE)):
        yield from part.splitlines() if number % 2 else re.findall(r"`([^`\n]+)`", part)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_on_a_page_exists(page: Path) -> None:
    commands = {command.NAME for command in COMMANDS}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for code in code_of(page):
        assert set(re.findall(r"(?:^|[ /|])afina ([a-z]+)", code)) <= commands, code
        assert set(re.findall(r"^make ([a-z-]+)", code)) <= targets, code


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_both_languages_have_the_same_pages_with_the_same_parts() -> None:
    def shape(page: Path) -> list[str]:
        return re.findall(r"^(#+ |```|\|---)", page.read_text(encoding="utf-8"), re.MULTILINE)

    english = sorted(path.name for path in (ROOT / "docs" / "en").iterdir())
    assert english == sorted(path.name for path in (ROOT / "docs" / "es").iterdir())
    for name in english:
        assert shape(ROOT / "docs" / "en" / name) == shape(ROOT / "docs" / "es" / name), name
    assert shape(ROOT / "README.md") == shape(ROOT / "README.es.md")


def test_the_pages_that_come_from_the_code_are_current() -> None:
    stale = [named(path) for path, text in docs.pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    assert stale == [], "mend with: make docs"


def test_every_text_is_translated() -> None:
    texts = translations.find_texts()
    assert list(translations.untranslatable()) == []
    for catalogue in sorted(translations.CATALOGUES.glob("*.po")):
        assert list(translations.problems_of(catalogue.read_text(encoding="utf-8"), texts)) == []


# ── how the code is built ─────────────────────────────────────────────────────────────────────────────────────────────


def test_commands_import_their_stages_only_when_they_run() -> None:
    """What import-linter cannot tell: whether an import stands inside a function."""
    for path in sorted((ROOT / "src" / "afina" / "cli").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = [name.name for node in imports if isinstance(node, ast.Import) for name in node.names]
        modules += [node.module or "" for node in imports if isinstance(node, ast.ImportFrom)]
        for module in modules:
            assert module.split(".")[0] not in HEAVY, named(path)
            assert not re.match(r"afina\.(?!cli|core)", module), f"{named(path)}: {module}"


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys; from afina.cli.main import main; main([]); print([name for name in {HEAVY} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]"


def test_only_the_top_package_has_anything_in_its_init() -> None:
    filled = [named(path) for path in SOURCES if path.name == "__init__.py" and path.stat().st_size]
    assert filled == ["src/afina/__init__.py"]


def test_the_public_names_are_these_and_are_there() -> None:
    assert afina.__all__ == ["AfinaError", "Recipe", "__version__", "run"]
    assert all(getattr(afina, name) is not None for name in afina.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = afina.nothing


def test_no_file_is_called_by_a_word_that_says_nothing() -> None:
    words = {"utils", "util", "helpers", "helper", "common", "manager", "handler", "misc"}
    paths = [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    assert [named(path) for path in paths if words & {*path.relative_to(ROOT).with_suffix("").parts}] == []


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_nothing_that_comes_with_a_model_is_executed(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {"pickle", "dill", "shelve", "marshal"} & {name.name for name in node.names}
        if isinstance(node, ast.keyword):
            assert node.arg != "trust_remote_code" or getattr(node.value, "value", None) is False
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("torch", "load")
