"""Show notebooks as pages: Markdown cells as they are, code cells with the outputs that are stored in the file."""

import json

from sphinx.application import Sphinx


def markdown_of(notebook: str, name: str) -> str:
    parts = []
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        printed = "".join(line for output in cell.get("outputs", []) for line in output["text"])
        if printed:
            parts.append(f"```{{code-block}} text\n:class: output\n\n{printed.rstrip()}\n```")
    return "\n\n".join([parts[0], f"{{download}}`{name}`", *parts[1:]])


def read_notebook(app: Sphinx, document: str, source: list[str]) -> None:
    path = app.env.doc2path(document)
    if path.suffix == ".ipynb":
        source[0] = markdown_of(source[0], path.name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", read_notebook)
    return {"parallel_read_safe": True}
