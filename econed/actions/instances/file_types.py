"""Reads the files of the instance types (`use_file_templates`).

The supervisor checks the files with it. So it imports no documents of oned, which only workers need.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from econed.config.loading import TEMPLATE_DIRECTORY, ConfigError, ConfigProblem
from econed.config.settings import Settings
from econed.opennebula.file_templates import FileTemplate, FileTemplateError, FileTypes
from econed.opennebula.template import is_storable


def configured_file_types(conf: Path, settings: Settings) -> FileTypes | None:
    """Return the files of the instance types, next to econe.conf (`conf`); None if the types are OpenNebula templates.

    Raises `ConfigError`.
    """
    if not settings.use_file_templates:
        return None
    return read_file_types(conf.parent / TEMPLATE_DIRECTORY, settings.instance_types)


def read_file_types(directory: Path, files: Mapping[str, str]) -> FileTypes:
    """Read the files of the instance types in a directory; `files` are their names by instance type.

    Raises one `ConfigError` for all files that cannot be read or parsed, with file and line.
    """
    problems: list[ConfigProblem] = []
    templates: dict[str, FileTemplate] = {}
    for name, file in files.items():
        path = directory / file
        if not is_storable(name):
            problems.append(
                ConfigProblem(str(path), "the name of its instance type cannot be stored in OpenNebula", key=name)
            )
        try:
            templates[name] = FileTemplate.parse(path.read_text("utf-8"))
        except OSError as error:
            problems.append(ConfigProblem(str(path), f"cannot be read: {error.strerror}", key=name))
        except UnicodeDecodeError:
            problems.append(ConfigProblem(str(path), "is not UTF-8 text", key=name))
        except FileTemplateError as error:
            problems.append(ConfigProblem(str(path), error.text, error.line, name))
    if problems:
        raise ConfigError(tuple(problems))
    return MappingProxyType(templates)
