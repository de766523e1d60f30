"""Tutorials: scripts of `examples/` in cells (`# %%`, `# %% [markdown]`), run, and shown with what they print."""

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

EXAMPLES = Path(__file__).parents[2] / "examples"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each script."""
    for script in sorted(EXAMPLES.glob("[0-9]*.py")):
        files.append(File.generated(config, f"tutorials/{script.stem}.md", content=page(script)))
    return files


def page(script: Path) -> str:
    """Return a script as Markdown: its prose, its code, and under each piece of code what it prints."""
    names = {"__name__": "__main__", "__file__": str(script)}
    parts, text = [], script.read_text()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for found in re.finditer(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", text, re.DOTALL | re.M):
            cell = found[2]
            if found[1]:
                parts.append(re.sub(r"^# ?", "", cell, flags=re.M).strip())
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * text.count("\n", 0, found.start(2)) + cell, script, "exec"), names)  # lines keep numbers
            parts.append(f"```python\n{cell.strip()}\n```")
            if printed.getvalue():
                parts.append(f"```{{ .text .output }}\n{printed.getvalue().rstrip()}\n```")
    parts.append(f"The whole script: `python {os.path.relpath(script, EXAMPLES.parent)}`.")
    return "\n\n".join(parts) + "\n"
