"""
The paper's tables on any model: methods as they are, rectified and filtered, beside controls.
"""

from ._result import Benchmark
from ._run import run_benchmark

__all__ = ["Benchmark", "run_benchmark"]
