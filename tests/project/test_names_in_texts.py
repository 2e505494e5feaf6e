"""Names of code and paths in docstrings, comments and pages exist."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TOP = {path.name for path in ROOT.iterdir()}
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]

EXTERNAL_NAMES = {
    *("CannotListenError", "contextlib.aclosing", "oneuser", "X509Auth.escape_dn", "server_cipher_auth.rb"),
    *("expr_bool", "AuthRequest", "AclManager", "VirtualMachineContext", "parse_str_or_xml", "template_syntax.y"),
    *("UserPoolInfo", "sda", "sdf", "vdf", "xvdf", "swap", "ephemeralN", "NAME_BASE64", "EMULATOR"),
}
"""Names of Python, of Twisted, of OpenNebula's sources and oned.conf, of devices, and patterns of names."""


@cache
def modules() -> dict[Path, ast.Module]:
    """Return the syntax trees of econed's modules by path."""
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted((ROOT / "econed").rglob("*.py"))}


def docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the docstrings of a module, including those of constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value


def words_in(tree: ast.Module) -> Iterator[str]:
    """Yield the words in the string literals of a module, without those of docstrings."""
    bare = {id(text) for text in docstrings(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield from re.findall(r"\w+", node.value)


def names_in(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module defines, imports or uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg | ast.keyword):
            yield node.arg or ""
        elif isinstance(node, ast.alias):
            yield from (*node.name.split("."), node.asname or "")


def texts() -> Iterator[tuple[str, str]]:
    """Yield the place and text of docstrings, comments and lines of pages."""
    for path, tree in modules().items():
        where = path.relative_to(ROOT)
        yield from ((f"{where}:{text.lineno}", text.value) for text in docstrings(tree) if isinstance(text.value, str))
        lines = path.read_text("utf-8").splitlines()
        yield from ((f"{where}:{number}", line) for number, line in enumerate(lines, 1) if "# " in line)
    for page in PAGES:
        where = page.relative_to(ROOT)
        yield from ((f"{where}:{number}", line) for number, line in enumerate(page.read_text("utf-8").splitlines(), 1))


def in_backquotes(pattern: str) -> Iterator[tuple[str, str]]:
    """Yield the place and text of backquoted names that match the pattern."""
    for where, text in texts():
        yield from ((where, name) for name in re.findall(rf"`({pattern})`", text))


def exists(name: str) -> bool:
    """Whether a dotted name of econed is a module, or a name in a module."""
    module, *rest = name.split(".")
    value: object = importlib.import_module(module)
    for part in rest:
        module = f"{module}.{part}"
        if not hasattr(value, part):
            try:
                importlib.import_module(module)
            except ModuleNotFoundError:
                return False
        value = getattr(value, part)
    return True


def test_dotted_names_of_econed_exist() -> None:
    """This covers modules and the names in them."""
    names = list(in_backquotes(r"econed(?:\.\w+)+"))
    assert len(names) > 10
    assert [(where, name) for where, name in names if not exists(name)] == []


def test_paths_of_the_checkout_exist() -> None:
    """Only paths that begin with a file or folder in the root are checked."""
    paths = [(where, path) for where, path in in_backquotes(r"[\w.-]+(?:/[\w.-]+)+/?") if path.split("/")[0] in TOP]
    assert len(paths) > 10
    assert [(where, path) for where, path in paths if not (ROOT / path).exists()] == []


def test_file_names_without_a_folder_exist() -> None:
    """The table of components has such names."""
    names = {path.name for path in (*modules(), *(ROOT / "tests").rglob("*.py"), *ROOT.glob("*.py"))}
    names |= {path.name for folder in ("distribution", "etc", "twisted") for path in (ROOT / folder).rglob("*.py")}
    named = list(in_backquotes(r"\w+\.py"))
    assert len(named) > 3
    assert [(where, name) for where, name in named if name not in names] == []


def test_names_in_docstrings_are_known_to_the_code() -> None:
    """No docstring names a function, class, attribute or parameter that was renamed or removed."""
    known = {part for path in modules() for part in path.relative_to(ROOT).with_suffix("").parts}
    for tree in modules().values():
        known.update(names_in(tree), words_in(tree))
    wrong = [
        f"{path.relative_to(ROOT)}:{text.lineno}: {name}"
        for path, tree in modules().items()
        for text in docstrings(tree)
        for name in re.findall(r"`([A-Za-z_]\w*(?:\.\w+)*)(?:\(\))?`", str(text.value))
        if name not in EXTERNAL_NAMES and not known.issuperset(name.split("."))
    ]
    assert wrong == []


def test_constants_in_docstrings_exist_under_that_name() -> None:
    """The name must be in the same module, or in code: strings of other modules do not count."""
    constants = {name for tree in modules().values() for name in names_in(tree)}
    wrong = [
        f"{path.relative_to(ROOT)}:{text.lineno}: {name}"
        for path, tree in modules().items()
        for known in [{*words_in(tree)}]
        for text in docstrings(tree)
        for name in re.findall(r"`(_?[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)`", str(text.value))
        if name not in EXTERNAL_NAMES | known | constants
    ]
    assert wrong == []


def test_pages_named_in_texts_exist() -> None:
    """Pages are named by their path: docs/…, README.md, CONTRIBUTING.md."""
    wrong = [where for where, text in texts() if re.search(r"\bDESIGN\b|\bdecision \d", text)]
    wrong += [
        f"{where}: {page}"
        for where, text in texts()
        if where.startswith("econed/")
        for page in re.findall(r"\b((?:\w+/)*[\w-]+\.md)\b", text)
        if not (ROOT / page).exists()
    ]
    assert wrong == []


def test_tests_that_pages_name_exist() -> None:
    """A page names a test as pytest does, path and function."""
    named = [
        (where, path, name) for where, text in texts() for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)", text)
    ]
    assert len(named) > 10
    assert [
        (where, name)
        for where, path, name in named
        if name not in names_in(ast.parse((ROOT / path).read_text("utf-8")))
    ] == []
