"""Starts the scoring service: `python -m convoy_service` in the `src` folder of an unpacked revision."""

from __future__ import annotations

import os
import sys

from .errors import SettingsWrong
from .handover import Handover
from .settings import quiet_libraries, read_settings


def main() -> int:
    """Run the service and return its exit code: 0 stopped, 2 settings wrong, 3 files differ, 5 model unusable."""
    sys.dont_write_bytecode = True
    quiet_libraries()
    try:
        settings = read_settings()
        given = Handover.read(sys.argv[1:])
        # imported late: a wrong setting is told at once, and who only keeps processes needs little
        if settings.workers > 1:
            from .processes import supervise

            return supervise(settings)
        from .server import serve

        return serve(settings, given)
    except SettingsWrong as problem:
        sys.stderr.write(f"convoy_service: {problem}\n")
        return problem.exit_code


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a thread inside a native library may still run, and the interpreter's own end would wait or crash on it.
    os._exit(code)
