"""Containerfile and compose.yaml name files, keys and commands that exist; tests/packages builds and runs the image."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from distribution.environment import COMMANDS, HOME
from econed.cli.options import parse
from econed.config.settings import Settings

ROOT = Path(__file__).parents[2]
KEYS = {f"ECONE_{field.name.upper()}" for field in fields(Settings)}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
ECONED: dict[str, Any] = COMPOSE["services"]["econed"]
INSTRUCTIONS = {
    *("ARG", "FROM", "WORKDIR", "COPY", "RUN", "LABEL", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
}


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of Containerfile with their arguments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text("utf-8"), flags=re.M)
    lines = filter(None, re.sub(r"\\\n\s*", "", text).splitlines())
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def final_stage() -> dict[str, str]:
    """Return the arguments of the instructions of the image itself."""
    listed = instructions()
    start = max(index for index, (name, _) in enumerate(listed) if name == "FROM")
    assert len({name for name, _ in listed[start:]}) == len(listed[start:])
    return dict(listed[start:])


def mounts(service: str) -> dict[str, str]:
    """Return the files of the checkout that a service mounts, by their paths in the container."""
    volumes = (volume.split(":") for volume in COMPOSE["services"][service]["volumes"])
    return {target: source for source, target, *_ in volumes if source.startswith(".")}


# Containerfile


def test_the_container_file_has_two_stages_of_known_instructions() -> None:
    """The first builds; what it needs for that is not in the image."""
    assert {name for name, _ in instructions()} == INSTRUCTIONS
    assert [argument for name, argument in instructions() if name == "FROM"] == ["${BASE} AS build", "${BASE}"]
    assert final_stage()["COPY"] == "--from=build /image /"


def test_the_build_stage_copies_everything_that_its_commands_name() -> None:
    """.dockerignore lets nothing else pass."""
    (command,) = (argument for name, argument in instructions() if name == "RUN")
    passed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert all((ROOT / name).exists() for name in passed - {"wheels"})
    named = re.findall(r"(?<=-r )\S+", command)
    named += [path.replace(".", "/") + ".py" for path in re.findall(r"(?<=-m )distribution\S+", command)]
    assert len(named) == 2
    assert all((ROOT / path).is_file() and path.split("/")[0] in passed for path in named)


def test_the_image_has_no_root_and_its_variables_are_keys() -> None:
    """Its ports need no capability."""
    stage = final_stage()
    user, group = map(int, stage["USER"].split(":"))
    assert min(user, group) > 0
    environment = dict(word.split("=", 1) for word in stage["ENV"].split())
    assert environment.pop("PATH").split(":")[0] == str(HOME / "bin")
    assert environment.keys() <= KEYS
    assert environment["ECONE_PORT"] == stage["EXPOSE"]
    assert all(int(value) >= 1024 for name, value in environment.items() if name.endswith("PORT"))


def test_the_image_runs_the_daemon_in_the_foreground_and_asks_whether_it_is_alive() -> None:
    """Another command of econe-server can be given in place of `run`."""
    stage = final_stage()
    program, *options = json.loads(stage["ENTRYPOINT"])
    assert Path(program).parent == HOME / "bin"
    assert Path(program).name in COMMANDS
    assert parse([*options, *json.loads(stage["CMD"])]).command == "run"
    health = json.loads(stage["HEALTHCHECK"].partition("CMD ")[2])
    assert health[0] == str(HOME / "bin/python3")
    compile(health[-1], "HEALTHCHECK", "exec")
    assert "/healthz" in health[-1]


# compose.yaml


def test_every_variable_of_econed_in_the_compose_file_is_a_key_or_names_a_mounted_secret() -> None:
    variables = dict(ECONED["environment"])
    assert variables.pop("ONE_CIPHER_AUTH") == f"/run/secrets/{ECONED['secrets'][0]}"
    assert variables.keys() <= KEYS
    assert COMPOSE["secrets"].keys() == set(ECONED["secrets"])


def test_econed_in_the_compose_file_has_no_rights_and_time_to_stop() -> None:
    """Ports are published on loopback only."""
    assert (ECONED["read_only"], ECONED["cap_drop"], ECONED["security_opt"]) == (True, ["ALL"], ["no-new-privileges"])
    assert int(ECONED["stop_grace_period"].removesuffix("s")) > Settings().drain_timeout
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert (ROOT / ECONED["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_everything_that_the_compose_file_mounts_exists(service: str) -> None:
    assert mounts(service)
    assert all((ROOT / source).exists() for source in mounts(service).values())


def test_prometheus_scrapes_econed_in_its_network_and_reads_the_mounted_rules() -> None:
    """The configuration is the one in the guide."""
    files = mounts("prometheus")
    configuration = yaml.safe_load((ROOT / files["/etc/prometheus/prometheus.yml"]).read_text("utf-8"))
    guide = (ROOT / "docs/guide/monitoring.md").read_text("utf-8")
    section = guide.partition("\n## Prometheus\n")[2].partition("\nThe rules expect")[0]
    assert configuration == yaml.safe_load(re.sub(r"^ {4}", "", section, flags=re.M))
    assert set(configuration["rule_files"]) <= files.keys()
    assert COMPOSE["services"]["prometheus"]["network_mode"] == "service:econed"
    (target,) = configuration["scrape_configs"][0]["static_configs"][0]["targets"]
    assert f"ECONE_ADMIN_PORT={target.partition(':')[2]}" in final_stage()["ENV"].split()


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    """Prometheus has the host name of econed, whose network it is in."""
    files = mounts("grafana")
    sources, dashboards = (
        yaml.safe_load((ROOT / files[f"/etc/grafana/provisioning/{kind}/econed.yml"]).read_text("utf-8"))
        for kind in ("datasources", "dashboards")
    )
    assert [source["url"] for source in sources["datasources"]] == ["http://econed:9090"]
    directory = files[dashboards["providers"][0]["options"]["path"]]
    assert (ROOT / directory / "econed.json").is_file()
