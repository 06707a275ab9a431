"""Run the notebooks of docs/notebooks and store what they print, or with --check compare it.

    python docs/run_notebooks.py [--check]

All run in this process, one after the other, each in a namespace of its own and in its folder, as Jupyter runs them.
They print; they have no other outputs.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parent / "notebooks"


def printed_by(code: str, names: dict[str, Any]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "a cell", "exec"), names)
    return out.getvalue()


def run(notebook: dict[str, Any]) -> list[str]:
    """Store the outputs of all code cells in the notebook; return one line for each that has changed."""
    names: dict[str, Any] = {"__name__": "__main__"}
    changed = []
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            text = printed_by("".join(cell["source"]), names)
            stream = {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
            outputs = [stream] if text else []
            if cell["outputs"] != outputs:
                stored = "".join(line for output in cell["outputs"] for line in output["text"])
                changed.append(f"cell {number} prints {text!r}, and the file has {stored!r}")
            cell["outputs"] = outputs
    return changed


def main(check: bool) -> int:
    wrong = 0
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = json.loads(path.read_text("utf-8"))
        os.chdir(NOTEBOOKS)
        changed = run(notebook)
        if not check:
            path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", "utf-8")
        for line in changed:
            print(f"{path.name}: {line}", file=sys.stderr)
        wrong += bool(check and changed)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
