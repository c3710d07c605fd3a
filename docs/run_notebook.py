"""Runs the code cells of a notebook in order, in this process, and writes the notebook with what they put out.

    python docs/run_notebook.py docs/demo.ipynb OUT.ipynb

Standard output and the value of a cell's last expression are kept, images as PNG; standard error, where bars and
progress go, is not. A cell that fails ends the run with its traceback. A Jupyter kernel does the same and shows more;
it would bring 32 packages for this one file.
"""

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook (its JSON, nbformat 4) with the outputs of this run in the place of its own."""
    names: dict[str, Any] = {"__name__": "__main__"}
    code_cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, cell in enumerate(code_cells, 1):
        print(f"cell {count}/{len(code_cells)}", file=sys.stderr, flush=True)
        said, value = io.StringIO(), None
        body = ast.parse("".join(cell["source"])).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(said):
            exec(compile(ast.Module(body, []), f"cell {count}", "exec"), names)
            if last:
                value = eval(compile(ast.Expression(last.value), f"cell {count}", "eval"), names)
        cell["execution_count"] = count
        cell["outputs"] = _stream(said.getvalue()) + _result(value, count)
    return notebook


def _stream(text: str) -> list[dict[str, Any]]:
    return [{"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}] if text else []


def _result(value: Any, count: int) -> list[dict[str, Any]]:
    if value is None:
        return []
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "_repr_png_"):
        data = {"image/png": base64.b64encode(value._repr_png_()).decode(), "text/plain": ["An image"]}
    return [{"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data}]


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    done = run(json.loads(source.read_text("utf-8")))
    target.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", "utf-8", newline="\n")
    print(f"Written: {target}.", file=sys.stderr)
