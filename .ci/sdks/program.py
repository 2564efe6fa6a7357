"""Runs code from standard input, one JSON string per line.

Prints one JSON line for each: `value` (the variable `result` of the code) or `error`.
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
    except Exception:  # noqa: BLE001 - reported to the sender
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
