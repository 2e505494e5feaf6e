"""The architecture: imports have one direction, and every component has its own task (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "econed"
MAX_MODULE_LINES = 450

# The components that each one may import, from top to bottom. A component is a folder or a root module of `econed`.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "cli": (
        *("configtest", "catalogue", "xmlrpc_backend", "process", "fetching", "actions", "xmlrpc"),
        *("credentials", "telemetry", "config", "opennebula"),
    ),
    "tap": (
        *("configtest", "daemon", "xmlrpc_backend", "sandbox", "process", "actions", "telemetry", "config"),
        "opennebula",
    ),
    "worker_main": ("daemon", "xmlrpc_backend", "process", "actions", "telemetry", "config"),
    "daemon": (
        *("configtest", "resource", "catalogue", "reconciler", "scripts", "process", "fetching", "http", "actions"),
        *("auth", "calls", "credentials", "telemetry", "config", "wire", "opennebula"),
    ),
    "configtest": (
        *("catalogue", "dispatch", "process", "actions", "xmlrpc"),
        *("telemetry", "config", "wire", "opennebula"),
    ),
    "resource": (
        *("pipeline", "dispatch", "answers", "http", "actions", "auth", "calls"),
        *("telemetry", "config", "wire", "opennebula"),
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
    "actions": ("credentials", "config", "opennebula"),
    "auth": ("credentials", "wire", "opennebula"),
    "calls": ("opennebula",),
    "credentials": ("opennebula",),
    "xmlrpc": ("opennebula",),
    "telemetry": ("config",),
    "config": (),
    "opennebula": (),
    "interfaces": ("wire",),
    "wire": (),
}
BASE_MODULES = (
    *("errors", "ids", "user", "interfaces", "clock", "recurring"),
    *("services", "single_flight", "cached_lookup", "slots", "hosts", "image_urls", "reusable", "sealing"),
)
"""Modules that every component except wire may import; they import each other, and interfaces imports wire."""

BASE_MODULES_FOR_WIRE = ("errors", "reusable", "services")
"""The base modules that wire may import."""

# The folders of `econed/actions`, from top to bottom, with those that each may import.
ACTIONS_MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "tags": (
        *("security_groups", "networks", "placement_groups", "addresses", "volumes", "images", "keys"),
        *("disk_images", "machines"),
    ),
    "interfaces": ("instances", "networks", "addresses", "machines"),
    "instance_types": ("instances", "images", "regions"),
    "instances": (
        *("addresses", "networks", "security_groups", "placement_groups", "volumes", "images", "keys", "regions"),
        *("disk_images", "machines"),
    ),
    "vpcs": ("security_groups", "networks", "regions"),
    "security_groups": ("networks",),
    **dict.fromkeys(("networks", "placement_groups"), ("regions",)),
    "addresses": ("regions", "machines"),
    "volumes": ("images", "regions", "disk_images", "machines"),
    "images": ("regions", "disk_images", "machines"),
    "disk_images": ("machines",),
    **dict.fromkeys(("account", "empty_lists", "iam", "keys", "machines", "regions", "sts"), ()),
}

WITHOUT_WEB_AND_REACTOR = ("wire", "auth", "actions", "opennebula")
MAY_IMPORT_THE_REACTOR = ("tap", "worker_main", "sandbox.tap", "cli")
MAY_BUILD_XML = ("wire", "opennebula", "sandbox")


@dataclass(frozen=True)
class Import:
    """A module, or a name in a module, that another module imports.

    `is_in_function` says whether the import statement is in a function.
    """

    name: str
    line: int
    is_in_function: bool


@dataclass(frozen=True)
class Module:
    """The source of a module of econed. `name` is relative to `econed`."""

    name: str
    path: Path

    @property
    def component(self) -> str:
        """The component that the module belongs to."""
        return component_of(self.name)

    def tree(self) -> ast.Module:
        """Return the syntax tree."""
        return parsed(self.path)

    def imports(self) -> list[Import]:
        """Return all imports, including those in functions and for the type checker."""
        imports: list[Import] = []
        self._collect(self.tree(), False, imports)
        return imports

    def at(self, line: int) -> str:
        """Return path and line for a message."""
        return f"{self.path.relative_to(PACKAGE.parent)}:{line}"

    def _collect(self, node: ast.AST, is_in_function: bool, imports: list[Import]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                imports += (Import(alias.name, child.lineno, is_in_function) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                origin = self._origin(child)
                imports += (Import(f"{origin}.{alias.name}", child.lineno, is_in_function) for alias in child.names)
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            self._collect(child, is_in_function or is_function, imports)

    def _origin(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        package = ["econed", *self.name.split(".")]
        if self.path.name == "__init__.py":
            package.append("")
        return ".".join([*package[: -statement.level], *filter(None, [statement.module])])


def component_of(name: str) -> str:
    """Return the component of a module, or of a name in a module, given relative to `econed`."""
    return name.partition(".")[0]


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"), str(path))


def modules() -> list[Module]:
    """Return all modules of econed except the package itself, which is empty."""
    result: list[Module] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            result.append(Module(name, path))
    return result


def is_in_any(module: Module, components: tuple[str, ...]) -> bool:
    """Whether a module is, or is in, one of `components`, which may be modules too."""
    return any(is_or_is_in(module.name, component) for component in components)


def is_or_is_in(name: str, module: str) -> bool:
    """Whether an imported name is a module or something in it."""
    return name == module or name.startswith(module + ".")


def texts(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the string literals, including parts of f-strings, without docstrings and other bare strings."""
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in bare:
            yield node


def strings_matching(pattern: str, allowed_in: tuple[str, ...]) -> list[str]:
    """Return the places of matching string literals outside of the components where they are allowed."""
    return [
        module.at(text.lineno)
        for module in modules()
        if not is_in_any(module, allowed_in)
        for text in texts(module.tree())
        if re.search(pattern, text.value if isinstance(text.value, str) else text.value.decode("latin-1"))  # type: ignore[union-attr]
    ]


def test_every_module_belongs_to_a_component() -> None:
    """A new component needs a row in the table."""
    assert {module.component for module in modules()} == {*MAY_IMPORT, *BASE_MODULES}


def test_components_import_only_what_the_table_allows() -> None:
    """In addition to the table, all components import the base modules, which import only each other and wire."""
    wrong = [
        f"{module.at(imported.line)}: {imported.name}"
        for module in modules()
        for imported in module.imports()
        if not _is_allowed(module, imported)
    ]
    assert wrong == []


def _is_allowed(module: Module, imported: Import) -> bool:
    package, _, rest = imported.name.partition(".")
    if package != "econed" or rest == "__version__":
        return True
    ground = BASE_MODULES_FOR_WIRE if module.component == "wire" else BASE_MODULES
    return component_of(rest) in (module.component, *ground, *MAY_IMPORT.get(module.component, ()))


@pytest.mark.parametrize("depth", [1, 2, 3], ids=["components", "folders", "modules"])
def test_nothing_imports_itself_by_way_of_others(depth: int) -> None:
    """No component, no folder in one and no module; imports for the type checker count too."""
    names = {module.name for module in modules()}
    graph: dict[str, set[str]] = {}
    for module in modules():
        own = ".".join(module.name.split(".")[:depth])
        others = {".".join(name.split(".")[:depth]) for name in _imported_modules(module, names)}
        graph.setdefault(own, set()).update(others - {own})
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def _imported_modules(module: Module, names: set[str]) -> Iterator[str]:
    for imported in module.imports():
        rest = imported.name.removeprefix("econed.")
        yield from (name for name in (rest, rest.rpartition(".")[0]) if name in names and imported.name != rest)


@pytest.mark.parametrize(
    ("heading", "table"), [("## The map", MAY_IMPORT), ("### Inside `actions/`", ACTIONS_MAY_IMPORT)]
)
def test_the_page_for_developers_has_the_same_table(heading: str, table: dict[str, tuple[str, ...]]) -> None:
    """A row for each component, or for each folder of the actions, with what it may import in the last column."""
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text("utf-8")
    section = re.split(r"^#+ .*$", page.partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    documented = {
        name: set(re.findall(r"`(\w+)`", cells[-1]))
        for cells in rows
        for name in re.findall(r"`(?:econed/)?(\w+)(?:\.py|/)?`", cells[0])
    }
    assert documented == {name: set(allowed) for name, allowed in table.items()}


def test_folders_of_actions_import_only_those_below_them() -> None:
    """The modules next to the folders import no folder, so that every folder may use them."""
    wrong = [
        f"{module.at(imported.line)}: {imported.name}"
        for module in modules()
        if module.component == "actions"
        for imported in module.imports()
        if (folder := action_folder(imported.name.removeprefix("econed."))) is not None
        if folder not in (own := action_folder(module.name), *ACTIONS_MAY_IMPORT.get(own or "", ()))
    ]
    assert wrong == []


def test_every_folder_of_actions_is_in_the_table() -> None:
    """A new folder needs a row in the table."""
    assert {action_folder(module.name) for module in modules()} == {None, *ACTIONS_MAY_IMPORT}
    assert {path.parent.name for path in (PACKAGE / "actions").glob("*/__init__.py")} == set(ACTIONS_MAY_IMPORT)


def action_folder(name: str) -> str | None:
    """Return the folder of `econed/actions` that contains a name; None if there is none."""
    parts = name.split(".")
    is_inside = parts[0] == "actions" and len(parts) > 1 and (PACKAGE / "actions" / parts[1]).is_dir()
    return parts[1] if is_inside else None


@pytest.mark.parametrize("table", [MAY_IMPORT, ACTIONS_MAY_IMPORT], ids=["components", "actions"])
def test_rows_of_the_tables_allow_only_lower_rows(table: dict[str, tuple[str, ...]]) -> None:
    """So there are no cycles."""
    order = list(table)
    assert [(row, lower) for row in order for lower in table[row] if order.index(lower) <= order.index(row)] == []


@pytest.mark.parametrize("table", [MAY_IMPORT, ACTIONS_MAY_IMPORT], ids=["components", "actions"])
def test_every_permission_in_the_tables_is_used(table: dict[str, tuple[str, ...]]) -> None:
    """An unused permission would allow an unintended import."""
    used = {
        (own, other)
        for module in modules()
        for imported in module.imports()
        for rest in [imported.name.removeprefix("econed.")]
        for own, other in [(module.component, component_of(rest)), (action_folder(module.name), action_folder(rest))]
    }
    assert {(row, other) for row, allowed in table.items() for other in allowed} - used == set()


@pytest.mark.parametrize("forbidden", ["twisted.web", "twisted.internet.reactor"])
def test_wire_auth_actions_and_opennebula_do_not_depend_on_http_or_the_reactor(forbidden: str) -> None:
    """They are used through values and zope Interfaces."""
    wrong = [
        f"{module.at(imported.line)}: {imported.name}"
        for module in modules()
        if is_in_any(module, WITHOUT_WEB_AND_REACTOR)
        for imported in module.imports()
        if is_or_is_in(imported.name, forbidden)
    ]
    assert wrong == []


def test_the_reactor_is_imported_only_in_functions_of_entry_points() -> None:
    """Importing econed does not install a reactor; all other code receives it as an argument."""
    wrong = [
        f"{module.at(imported.line)}: {imported.name}"
        for module in modules()
        for imported in module.imports()
        if is_or_is_in(imported.name, "twisted.internet.reactor")
        and not (imported.is_in_function and is_in_any(module, MAY_IMPORT_THE_REACTOR))
    ]
    assert wrong == []


def test_only_the_exposition_imports_prometheus_client() -> None:
    """All other code calls `Metrics`, or a callable that it receives."""
    importers = {
        module.name
        for module in modules()
        for imported in module.imports()
        if imported.name.partition(".")[0] == "prometheus_client"
    }
    assert importers == {"telemetry.exposition"}


def test_only_the_client_of_oned_and_the_fetcher_of_images_open_connections() -> None:
    """Besides these, only commands for administrators connect to anything."""
    apis = re.compile(r"\.(\w*ClientEndpoint|HostnameEndpoint|clientFromString|connectProtocol|wrapClientTLS|Agent)$")
    importers = {
        module.name
        for module in modules()
        for imported in module.imports()
        if apis.search(imported.name)
        or imported.name.partition(".")[0] in ("treq", "requests", "urllib3")
        or is_or_is_in(imported.name, "urllib.request")
        or is_or_is_in(imported.name, "http.client")
    }
    assert {name for name in importers if component_of(name) != "cli"} == {
        "xmlrpc.endpoint",
        "xmlrpc.proxy",
        "fetching.pinned_agent",
        "fetching.fetcher",
    }


def test_only_wire_contains_the_namespace_of_ec2() -> None:
    """A module that contains it builds EC2 XML."""
    assert strings_matching(r"xmlns|amazonaws\.com/doc", allowed_in=("wire",)) == []


def test_only_the_encoder_and_the_code_for_oned_build_xml() -> None:
    """Other code neither creates elements nor concatenates tags."""
    builders = ("Element", "SubElement", "tostring", "E", "ElementMaker")
    wrong = [
        module.at(node.lineno)
        for module in modules()
        if not is_in_any(module, MAY_BUILD_XML)
        for node in ast.walk(module.tree())
        if isinstance(node, ast.Attribute) and node.attr in builders and ast.unparse(node.value).endswith("etree")
    ]
    wrong += [
        f"{module.at(imported.line)}: {imported.name}"
        for module in modules()
        if not is_in_any(module, MAY_BUILD_XML)
        for imported in module.imports()
        if imported.name
        in {*(f"lxml.etree.{name}" for name in builders), "lxml.builder.E", "lxml.builder.ElementMaker"}
    ]
    assert wrong == []
    assert strings_matching(r"</?[A-Za-z]\w*/?>", allowed_in=MAY_BUILD_XML) == []


def test_only_opennebula_builds_template_text() -> None:
    """Its function quotes the values; the sandbox parses them as oned does."""
    assert strings_matching(r'\b[A-Z][A-Z0-9_]+=["\[]', allowed_in=("opennebula", "sandbox")) == []


def test_no_module_is_too_long() -> None:
    """A longer module contains more than one idea, also among the tests."""
    root = PACKAGE.parent
    paths = sorted((*PACKAGE.rglob("*.py"), *(root / "tests").rglob("*.py")))
    lengths = {str(path.relative_to(root)): len(path.read_text("utf-8").splitlines()) for path in paths}
    assert {where: length for where, length in lengths.items() if length > MAX_MODULE_LINES} == {}


def test_workers_import_neither_the_sandbox_nor_the_options_of_twistd_nor_botocores_client() -> None:
    """They would take memory in every worker."""
    command = "import sys, econed.worker_main; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    loaded = output.split()
    assert "econed.daemon" in loaded
    unneeded = ("econed.sandbox", "econed.tap", "twisted.python.usage", "twisted.application.internet", "botocore.")
    assert [name for name in loaded if name.startswith(unneeded)] == []


UNNEEDED_IN_A_SUPERVISOR = (
    *("econed.daemon", "econed.catalogue", "econed.resource", "econed.http", "econed.wire", "econed.actions.call"),
    *("econed.opennebula.views", "lxml", "botocore", "treq", "twisted.web", "prometheus_client"),
)


def test_the_supervisor_imports_only_what_it_needs_itself(tmp_path: Path) -> None:
    """Not even to check the settings: the actions and the model would take as much memory in it as in a worker."""
    templates = tmp_path / "ec2query_templates"
    templates.mkdir()
    (templates / "small.erb").write_text("CPU = 1", "utf-8")
    conf, auth_file = tmp_path / "econe.conf", tmp_path / "auth"
    conf.write_text("use_file_templates: true\ninstance_types: {m1.small: {template: small.erb}}\n", "utf-8")
    auth_file.write_text("serveradmin:secret", "utf-8")
    auth_file.chmod(0o600)
    command = f"""
import sys
from econed import tap
options = tap.Options()
options.parseOptions(["--config", {str(conf)!r}, "--port", "0"])
tap.makeService(options)
print(*sys.modules)
"""
    environ = {**os.environ, "ONE_CIPHER_AUTH": str(auth_file)}
    output = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, env=environ)
    loaded = output.stdout.split()
    assert "econed.process.supervisor" in loaded
    assert [name for name in loaded if name.startswith(UNNEEDED_IN_A_SUPERVISOR)] == []
