"""Tutorials: scripts of `examples/` in cells (`# %%`, `# %% [markdown]`), run, and shown with what they print and draw."""

import contextlib
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

EXAMPLES = Path(__file__).parents[2] / "examples"
CELL = re.compile(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", re.DOTALL | re.M)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Run every script, and add its page and pictures to those of the site."""
    for script in sorted(EXAMPLES.glob("[0-9]*.py")):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            page = "\n\n".join(shown(script, Path(folder)))
            files.append(File.generated(config, f"tutorials/{script.stem}.md", content=page))
            for picture in Path(folder).glob("*.svg"):
                files.append(File.generated(config, f"tutorials/{picture.name}", content=picture.read_text()))
    return files


def shown(script: Path, folder: Path) -> Iterator[str]:
    """Yield a script as Markdown: its prose, its code, and under each piece of code what it prints and draws."""
    names, text = {"__name__": "__main__", "__file__": str(script)}, script.read_text()
    for prose, code in ((cell[2], "") if cell[1] else ("", "\n" * text.count("\n", 0, cell.start(2)) + cell[2])
                        for cell in CELL.finditer(text)):
        if prose:
            yield re.sub(r"^# ?", "", prose, flags=re.M).strip()
            continue
        drawn, printed = set(folder.glob("*.svg")), io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, script, "exec"), names)
        yield f"```python\n{code.strip()}\n```"
        if printed.getvalue():
            yield f"```{{ .text .output }}\n{printed.getvalue().rstrip()}\n```"
        for picture in sorted(set(folder.glob("*.svg")) - drawn):
            yield f"![{picture.stem.replace('-', ' ')}]({picture.name})"
    yield f"The whole script: `python examples/{script.name}`."
