"""The house: imports point one way, and each room does only what is its own (CONTRIBUTING.md, "The house")."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "econed"
LONGEST_MODULE = 450

# What each room may import of the others, from top to bottom. A room is a folder of `econed`, or a module in its root.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "cli": (
        "catalogue",
        "xmlrpc_backend",
        "process",
        "fetching",
        "actions",
        "xmlrpc",
        "telemetry",
        "config",
        "opennebula",
    ),
    "tap": ("daemon", "xmlrpc_backend", "sandbox", "process", "actions", "telemetry", "config", "opennebula"),
    "worker_main": ("daemon", "xmlrpc_backend", "process", "actions", "telemetry", "config"),
    "daemon": (
        *(
            "resource",
            "catalogue",
            "reconciler",
            "dispatch",
            "scripts",
            "process",
            "fetching",
            "http",
            "actions",
            "auth",
        ),
        *("telemetry", "config", "wire", "opennebula"),
    ),
    "resource": (
        *("pipeline", "dispatch", "answers", "http", "actions", "auth", "telemetry", "config", "wire", "opennebula"),
    ),
    "pipeline": ("dispatch", "actions", "wire"),
    "dispatch": ("actions", "wire"),
    "answers": ("auth",),
    "catalogue": ("actions",),
    "reconciler": ("actions", "opennebula"),
    "scripts": (),
    "xmlrpc_backend": ("xmlrpc", "config", "opennebula"),
    "sandbox": ("opennebula",),
    "process": ("telemetry", "config"),
    "fetching": ("http", "config"),
    "http": ("auth", "config", "wire"),
    "actions": ("config", "opennebula"),
    "auth": ("wire", "opennebula"),
    "xmlrpc": ("opennebula",),
    "telemetry": ("config",),
    "config": (),
    "opennebula": (),
    "interfaces": ("wire",),
    "wire": (),
}
GROUND = ("errors", "ids", "user", "interfaces", "clock", "recurring", "single_flight", "slots", "hosts", "image_urls")
"""Modules of the root that every room but wire may import; they import each other, and interfaces imports wire."""

GROUND_OF_WIRE = ("errors",)
"""Those that wire may import."""

# The folders of `econed/actions`, from top to bottom: each may import those below it that are named, and the modules
# beside the folders, which import no folder.
ACTIONS_MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "tags": ("addresses", "volumes", "images", "keys", "disk_images", "machines"),
    "instances": ("addresses", "volumes", "images", "keys", "regions", "disk_images", "machines"),
    "addresses": ("regions", "machines"),
    "volumes": ("images", "regions", "disk_images", "machines"),
    "images": ("regions", "disk_images", "machines"),
    "keys": (),
    "regions": (),
    "disk_images": ("machines",),
    "machines": (),
}

WITHOUT_WEB_AND_REACTOR = ("wire", "auth", "actions", "opennebula")
MAY_IMPORT_THE_REACTOR = ("tap", "worker_main", "sandbox.tap", "cli")
MAY_BUILD_XML = ("wire", "opennebula", "sandbox")


@dataclass(frozen=True)
class Import:
    """One module, or one name of a module, that another takes in.

    `inside` says whether a function does it.
    """

    name: str
    line: int
    inside: bool


@dataclass(frozen=True)
class Module:
    """A module of econed as it is written. `name` has no `econed.` before it."""

    name: str
    path: Path

    @property
    def room(self) -> str:
        """The part of the house in which it is."""
        return room_of(self.name)

    def tree(self) -> ast.Module:
        """Return what it says."""
        return parsed(self.path)

    def imports(self) -> list[Import]:
        """Return what it imports, wherever: in functions and for the type checker too."""
        found: list[Import] = []
        self._collect(self.tree(), False, found)
        return found

    def at(self, line: int) -> str:
        """Return where that is, for a message."""
        return f"{self.path.relative_to(PACKAGE.parent)}:{line}"

    def _collect(self, node: ast.AST, inside: bool, found: list[Import]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found += (Import(alias.name, child.lineno, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                origin = self._origin(child)
                found += (Import(f"{origin}.{alias.name}", child.lineno, inside) for alias in child.names)
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            self._collect(child, inside or is_function, found)

    def _origin(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        package = ["econed", *self.name.split(".")]
        if self.path.name == "__init__.py":
            package.append("")
        return ".".join([*package[: -statement.level], *filter(None, [statement.module])])


def room_of(name: str) -> str:
    """Return the room of a module, or of something in one, by its name without `econed.`."""
    return name.partition(".")[0]


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"), str(path))


def modules() -> list[Module]:
    """Return all modules of econed but the package itself, which holds nothing."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found.append(Module(name, path))
    return found


def in_rooms(module: Module, rooms: tuple[str, ...]) -> bool:
    """Whether a module is one of `rooms`, or in one of them."""
    return any(module.name == room or module.name.startswith(room + ".") for room in rooms)


def is_or_is_in(name: str, module: str) -> bool:
    """Whether an imported name is a module or something in it."""
    return name == module or name.startswith(module + ".")


def texts(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the string literals, those in f-strings too, without the docstrings and other bare strings."""
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in bare:
            yield node


def strings_like(pattern: str, rooms_without: tuple[str, ...]) -> list[str]:
    """Return where a string literal that matches stands outside of the rooms that may have it."""
    return [
        module.at(text.lineno)
        for module in modules()
        if not in_rooms(module, rooms_without)
        for text in texts(module.tree())
        if re.search(pattern, text.value if isinstance(text.value, str) else text.value.decode("latin-1"))  # type: ignore[union-attr]
    ]


def test_every_module_is_in_a_room_of_the_house() -> None:
    """A new room needs a place in the table, and a rule for what it may import."""
    assert {module.room for module in modules()} == {*MAY_IMPORT, *GROUND}


def test_imports_only_point_the_way_the_house_is_built() -> None:
    """A room imports the rooms that the table names and the ground floor, which imports only itself and wire."""
    wrong = [
        f"{module.at(taken.line)}: {taken.name}"
        for module in modules()
        for taken in module.imports()
        if not _is_allowed(module, taken)
    ]
    assert wrong == []


def _is_allowed(module: Module, taken: Import) -> bool:
    package, _, rest = taken.name.partition(".")
    if package != "econed" or rest == "__version__":
        return True
    ground = GROUND_OF_WIRE if module.room == "wire" else GROUND
    return room_of(rest) in (module.room, *ground, *MAY_IMPORT.get(module.room, ()))


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Not even for the type checker."""
    names = {module.name for module in modules()}
    graph = {module.name: {*_imported_modules(module, names)} - {module.name} for module in modules()}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def _imported_modules(module: Module, names: set[str]) -> Iterator[str]:
    for taken in module.imports():
        rest = taken.name.removeprefix("econed.")
        yield from (name for name in (rest, rest.rpartition(".")[0]) if name in names and taken.name != rest)


def test_folders_of_actions_import_only_those_below_them() -> None:
    """And what is beside the folders imports none of them, so that every resource may use it."""
    wrong = [
        f"{module.at(taken.line)}: {taken.name}"
        for module in modules()
        if module.room == "actions"
        for taken in module.imports()
        if (folder := action_folder(taken.name.removeprefix("econed."))) is not None
        if folder not in (own := action_folder(module.name), *ACTIONS_MAY_IMPORT.get(own or "", ()))
    ]
    assert wrong == []


def test_every_folder_of_actions_has_its_place_in_the_order() -> None:
    """A new one needs a row, and a rule for what it may import."""
    assert {action_folder(module.name) for module in modules()} == {None, *ACTIONS_MAY_IMPORT}
    assert {path.parent.name for path in (PACKAGE / "actions").glob("*/__init__.py")} == set(ACTIONS_MAY_IMPORT)


def action_folder(name: str) -> str | None:
    """Return the folder of `econed/actions` that a name is in; None if it is in none."""
    parts = name.split(".")
    is_inside = parts[0] == "actions" and len(parts) > 1 and (PACKAGE / "actions" / parts[1]).is_dir()
    return parts[1] if is_inside else None


@pytest.mark.parametrize("table", [MAY_IMPORT, ACTIONS_MAY_IMPORT], ids=["rooms", "actions"])
def test_the_tables_point_downwards(table: dict[str, tuple[str, ...]]) -> None:
    """No folder can come to depend on itself by way of another."""
    order = list(table)
    assert [(room, taken) for room in order for taken in table[room] if order.index(taken) <= order.index(room)] == []


@pytest.mark.parametrize("table", [MAY_IMPORT, ACTIONS_MAY_IMPORT], ids=["rooms", "actions"])
def test_what_the_tables_allow_is_in_use(table: dict[str, tuple[str, ...]]) -> None:
    """A permission that nothing needs would let an import in that nobody meant."""
    used = {
        (own, other)
        for module in modules()
        for taken in module.imports()
        for rest in [taken.name.removeprefix("econed.")]
        for own, other in [(module.room, room_of(rest)), (action_folder(module.name), action_folder(rest))]
    }
    assert {(room, taken) for room, allowed in table.items() for taken in allowed} - used == set()


@pytest.mark.parametrize("forbidden", ["twisted.web", "twisted.internet.reactor"])
def test_protocol_and_meaning_know_neither_http_nor_the_reactor(forbidden: str) -> None:
    """Wire, auth, actions and opennebula are reached through values and zope Interfaces."""
    wrong = [
        f"{module.at(taken.line)}: {taken.name}"
        for module in modules()
        if in_rooms(module, WITHOUT_WEB_AND_REACTOR)
        for taken in module.imports()
        if is_or_is_in(taken.name, forbidden)
    ]
    assert wrong == []


def test_the_reactor_is_imported_where_everything_is_put_together_and_there_in_functions() -> None:
    """Importing econed installs no reactor; everything else is given the one that runs."""
    wrong = [
        f"{module.at(taken.line)}: {taken.name}"
        for module in modules()
        for taken in module.imports()
        if is_or_is_in(taken.name, "twisted.internet.reactor")
        and not (taken.inside and in_rooms(module, MAY_IMPORT_THE_REACTOR))
    ]
    assert wrong == []


def test_only_metrics_and_merging_import_prometheus_client() -> None:
    """Everything else says to `Metrics` what happened, or to a callable that it was given."""
    takers = {
        module.name
        for module in modules()
        for taken in module.imports()
        if taken.name.partition(".")[0] == "prometheus_client"
    }
    assert takers == {"telemetry.metrics", "telemetry.merging"}


def test_nothing_but_the_way_to_oned_and_the_fetching_of_images_connects_to_anything() -> None:
    """Users' text leads nowhere else: whatever connects is one of these, or a command for people."""
    ways = re.compile(r"\.(\w*ClientEndpoint|HostnameEndpoint|clientFromString|connectProtocol|wrapClientTLS|Agent)$")
    takers = {
        module.name
        for module in modules()
        for taken in module.imports()
        if ways.search(taken.name)
        or taken.name.partition(".")[0] in ("treq", "requests", "urllib3")
        or is_or_is_in(taken.name, "urllib.request")
        or is_or_is_in(taken.name, "http.client")
    }
    assert {name for name in takers if room_of(name) != "cli"} == {
        "xmlrpc.proxy",
        "fetching.pinned_agent",
        "fetching.fetcher",
    }


def test_only_the_wire_names_the_namespace_of_ec2() -> None:
    """Whoever writes it builds EC2 XML."""
    assert strings_like(r"xmlns|amazonaws\.com/doc", rooms_without=("wire",)) == []


def test_xml_is_built_by_the_encoder_and_by_what_speaks_for_oned() -> None:
    """Elsewhere nothing makes elements, and nothing pastes tags together."""
    builders = ("Element", "SubElement", "tostring", "E", "ElementMaker")
    wrong = [
        module.at(node.lineno)
        for module in modules()
        if not in_rooms(module, MAY_BUILD_XML)
        for node in ast.walk(module.tree())
        if isinstance(node, ast.Attribute) and node.attr in builders and ast.unparse(node.value).endswith("etree")
    ]
    wrong += [
        f"{module.at(taken.line)}: {taken.name}"
        for module in modules()
        if not in_rooms(module, MAY_BUILD_XML)
        for taken in module.imports()
        if taken.name in {*(f"lxml.etree.{name}" for name in builders), "lxml.builder.E", "lxml.builder.ElementMaker"}
    ]
    assert wrong == []
    assert strings_like(r"</?[A-Za-z]\w*/?>", rooms_without=MAY_BUILD_XML) == []


def test_template_text_is_built_by_opennebula_alone() -> None:
    """Its one function quotes; the sandbox, which is oned, is what reads it."""
    assert strings_like(r'\b[A-Z][A-Z0-9_]+=["\[]', rooms_without=("opennebula", "sandbox")) == []


def test_no_module_is_longer_than_one_idea() -> None:
    """One that is holds a second idea."""
    lengths = {module.at(1): len(module.path.read_text("utf-8").splitlines()) for module in modules()}
    assert {where: length for where, length in lengths.items() if length > LONGEST_MODULE} == {}
