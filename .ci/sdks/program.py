"""Runs the code it is given on standard input, one JSON string a line.

After each it prints one JSON line: `value` (what the code called `result`) or `error`.
"""

import json
import sys
import traceback
from typing import Any

scope: dict[str, Any] = {}
for line in sys.stdin:
    scope.pop("result", None)
    try:
        exec(json.loads(line), scope)
        answer = {"value": scope.get("result")}
    except Exception:  # noqa: BLE001 - said to who sent the code
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
