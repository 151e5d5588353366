"""Runs one Python step: executed as a script of its own, never imported by the worker.

Reads ``{"code", "args", "context"}`` from standard input, runs the code with the arguments as variables, and writes
the variable ``result``, if it is something that JSON can hold, to the file named on the command line.
"""

from __future__ import annotations

import json
import linecache
import sys
import traceback


def main() -> int:
    """Exit code of the step."""
    task = json.loads(sys.stdin.buffer.read())
    arguments = task["args"]
    variables = {
        "__name__": "__main__",
        "json": json,
        "sys": sys,
        "execution_id": task["context"].get("execution_id"),
        "step": task["context"].get("step"),
        "args": arguments,
        "context": task["context"],
        "variables": task["context"].get("variables"),
        **arguments,
    }
    source = task["code"]
    linecache.cache["<step>"] = (len(source), None, source.splitlines(keepends=True), "<step>")
    try:
        exec(compile(source, "<step>", "exec"), variables)  # noqa: S102 (running the step's code is the purpose)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:  # whatever the step raises is the step's failure
        frames = traceback.TracebackException.from_exception(error)
        frames.stack = traceback.StackSummary.from_list([f for f in frames.stack if f.filename != __file__])
        sys.stderr.write("".join(frames.format()))
        return 1
    result = variables.get("result")
    if result is not None:
        try:
            text = json.dumps(result, default=str, allow_nan=False)
        except (ValueError, RecursionError) as error:
            sys.stderr.write(f"result is no JSON: {error}\n")
            return 0
        with open(sys.argv[1], "w", encoding="utf-8") as output:
            output.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
