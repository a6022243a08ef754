"""The edge under load: beside a bare Envoy, and while weights, servers and configurations change under it.

The edge is the tests' own: a real Envoy, a real agent, small servers as processes.
"""

from __future__ import annotations

import sys

from benchmarks.form import ROOT

sys.path.append(str(ROOT / "tests" / "traffic"))
