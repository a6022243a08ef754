"""A supervised program as a value, and the supervisord section that says it.

supervisord reads its files in four layers, each with traps of its own: an INI parser (` ;` and ` #` start comments),
a textual replacement of `%(here)s`, Python's %-expansion (twice for log files), and for `environment=` a shlex that
knows no escapes. `escaped` survives the first three; what the fourth cannot say is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import InputError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NOTHING = "%(here).0s"
"""Expands to no characters at all in every section: it parts characters that supervisord would read together."""

LOG_BYTES = "10MB"
LOG_BACKUPS = 2


@dataclass(frozen=True, slots=True)
class Program:
    """A process to be kept running.

    `environment` comes on top of the supervisor's own, which holds nothing but where things are. A process that ends
    within `start_seconds` counts as a failed start; after `start_retries` more tries the supervisor gives up, later
    ends are restarted for ever. `stop_seconds` lie between SIGTERM and SIGKILL, both sent to the whole group.
    One that ends with one of `final_statuses` after its start has succeeded is left ended. `log` takes stdout and stderr and is rotated.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    autostart: bool = True
    autorestart: bool = True
    start_retries: int = 3
    start_seconds: int = 1
    stop_seconds: int = 10
    final_statuses: tuple[int, ...] = ()

    def section(self) -> str:
        """Return the program's file; raises InputError for what supervisord cannot say."""
        if not NAME.fullmatch(self.name):
            raise InputError(f"program '{self.name}'", "a name has letters, digits, dots, dashes and underscores only")
        lines = {
            "command": escaped(shlex.join(self.command)),
            "directory": escaped(str(self.directory)),
            "environment": ",".join(f"{name}={self._quoted(name, value)}" for name, value in sorted(self.environment.items())),
            "autostart": str(self.autostart).lower(),
            # "unexpected" restarts after every status but those in exitcodes
            "autorestart": "unexpected" if self.autorestart and self.final_statuses else str(self.autorestart).lower(),
            "exitcodes": ",".join(str(status) for status in self.final_statuses) or "0",
            "startsecs": str(self.start_seconds),
            "startretries": str(self.start_retries),
            "stopwaitsecs": str(self.stop_seconds),
            "stopasgroup": "true",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": escaped(escaped(str(self.log))),
            "stdout_logfile_maxbytes": LOG_BYTES,
            "stdout_logfile_backups": str(LOG_BACKUPS),
        }
        for key, value in lines.items():
            if any(character in value for character in "\n\r\0"):
                raise InputError(f"program '{self.name}'", f"its {key} has a line break or a NUL, which supervisord cannot read")
        return "\n".join([f"[program:{self.name}]", *(f"{key}={value}" for key, value in lines.items()), ""])

    def _quoted(self, name: str, value: str) -> str:
        """Quote a variable's value; the value itself never goes into an error, since it may be a credential."""
        if not VARIABLE.fullmatch(name):
            raise InputError(f"program '{self.name}'", f"the variable {name!r} is not a name")
        quote = "'" if '"' in value else '"'
        if quote in value or value != value.strip("'\""):
            raise InputError(
                f"program '{self.name}'",
                f"the variable {name} starts or ends with a quote or holds both kinds, which supervisord cannot read",
                "Pass it in a file and name the file instead.",
            )
        return quote + escaped(value) + quote


def escaped(text: str) -> str:
    """Return text that supervisord's parser and one %-expansion turn back into the text given."""
    return re.sub(r"[%;#]", lambda found: "%%" + NOTHING if found[0] == "%" else NOTHING + found[0], text)


def environment_of(file: Path) -> dict[str, str]:
    """Return the environment that a program's file gives, read with supervisord's own parser."""
    from supervisor.datatypes import dict_of_key_value_pairs
    from supervisor.options import UnhosedConfigParser, expand

    parser = UnhosedConfigParser()
    with file.open(encoding="utf-8") as lines:
        parser.read_file(lines)
    (section,) = parser.sections()
    text = expand(parser.get(section, "environment"), {"here": ""}, "environment")
    found: dict[str, str] = dict_of_key_value_pairs(text)
    return found
