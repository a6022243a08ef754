"""A clock that a test sets for the processes it starts, as an operator or a broken NTP sets a machine's."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("set_clock.c")


class SetClock:
    """The time of day of whichever process is given `environment`; the machine's own clock is left alone."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("a C compiler is not installed: sudo apt-get install gcc libc6-dev")
        self.library, self.file = folder / "set_clock.so", folder / "clock"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(self.library), str(SOURCE)], check=True, capture_output=True)
        self.file.write_bytes(struct.pack("l", 0))

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to go by this clock."""
        return {"LD_PRELOAD": str(self.library), "TEST_CLOCK_FILE": str(self.file)}

    def forward(self, seconds: int) -> None:
        """Set the clock, for all its processes at once; backwards by a negative number."""
        with self.file.open("r+b") as file:
            (before,) = struct.unpack("l", file.read(8))
            file.seek(0)
            file.write(struct.pack("l", before + seconds))
