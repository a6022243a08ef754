"""One model behind Convoy's server and behind its peers: the same rows, the same core, in turn."""

from __future__ import annotations

import sys

from benchmarks.form import ROOT

# The bare Envoy is the tests' own (benchmarks/traffic_cases/bare.py), and the second example is an example
sys.path[1:1] = [str(ROOT / "tests" / "traffic"), str(ROOT / "tests"), str(ROOT / "examples")]
