"""The catalogue has every action, chore and finder that a module of `econed.actions` defines."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from econed.actions.action import actions_in
from econed.catalogue import all_chores, all_finders

ACTIONS = Path(__file__).parent.parent / "econed/actions"
ACTION = """\
from econed.actions.action import action

@action()
async def {}(call): "An action."
"""


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, **modules: str) -> ModuleType:
    """Return a package with these modules; the name `x___y` is the module `y` in the package `x`."""
    for dotted, text in {"__init__": "", **modules}.items():
        file = tmp_path.joinpath(name, *dotted.split("___")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(text, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module(name)


def test_the_actions_of_all_modules_are_found_without_a_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Actions of subpackages are found, too; an action that other modules import is found once."""
    example_package = package(
        tmp_path,
        monkeypatch,
        "actions_of_several_modules",
        one=ACTION.format("start_instances"),
        two=f"from actions_of_several_modules.one import start_instances\n{ACTION.format('stop_instances')}",
        inner=ACTION.format("create_tags"),
        room___three=ACTION.format("delete_tags"),
    )
    assert [action.name for action in actions_in(example_package)] == [
        "CreateTags",
        "StartInstances",
        "DeleteTags",
        "StopInstances",
    ]


@pytest.mark.parametrize("module", ["broken", "room___broken"])
def test_a_module_that_cannot_be_imported_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Otherwise its actions would be missing without a message."""
    example_package = package(tmp_path, monkeypatch, f"actions_with_{module}", **{module: "import what_nobody_has"})
    with pytest.raises(ImportError, match="what_nobody_has"):
        actions_in(example_package)


def functions_taking(parameter: str) -> Iterator[str]:
    """Yield the public functions of `econed.actions` whose only parameter has a type of this name."""
    for path in sorted(ACTIONS.rglob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_"):
                annotations = [ast.unparse(argument.annotation) for argument in node.args.args if argument.annotation]
                if annotations == [parameter]:
                    yield node.name


def test_every_chore_is_run_by_the_reconciler() -> None:
    """The work of a chore that is not listed would never be finished."""
    assert {getattr(chore, "__name__", "") for chore in all_chores()} == {*functions_taking("ChoreRun")}


def test_every_finder_is_run_by_doctor() -> None:
    """A finder that is not listed would find nothing."""
    assert {getattr(finder, "__name__", "") for finder in all_finders()} == {*functions_taking("Examination")}
