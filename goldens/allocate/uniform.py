"""Golden for allocate/uniform: the decimal share, halves up, in exact arithmetic. Run: python -P goldens/allocate/uniform.py"""

import json
import pathlib
from decimal import ROUND_HALF_UP, Decimal

import numpy as np

sizes = [1, 2, 3, 5, 8, 9, 30, 576, 1536]
cases = []
for keep in ("0", "0.25", "0.5", "0.6", "0.75", "0.8", "0.9", "1"):
    quotas = [int((Decimal(keep) * n).quantize(Decimal(1), ROUND_HALF_UP)) for n in sizes]
    cases.append({"keep": float(keep), "quotas": quotas})

golden = {"made_by": "goldens/allocate/uniform.py", "seed": None, "numpy": np.__version__, "sizes": sizes, "cases": cases}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=1) + "\n")
