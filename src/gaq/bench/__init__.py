"""How fast force fields compute: PyTorch in three modes, the native engine and other packages, side by side in one run.

`systems` makes what is timed, `steps` what times are of, `peers` the other packages, `timing` and `memory` measure,
`costs` counts operations, `comparison` puts it together, `summary` says what the rows mean.
"""

from gaq.bench.comparison import BenchPlan, BenchRow, Comparison, Skip, as_json, compare

__all__ = ["BenchPlan", "BenchRow", "Comparison", "Skip", "as_json", "compare"]
