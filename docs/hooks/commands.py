"""The command line reference, made from the program itself: a page for mkdocs, `commands.md`."""

import re
from collections.abc import Iterable
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

INTRODUCTION = """# Command line

This page is made from the program: `gaq COMMAND --help` says the same. No command replaces a file without `--overwrite`.
Ctrl-C and SIGTERM save what was reached, and say how to go on. A source of frames (`SRC`) is named
[the same way everywhere](training.md#naming-a-source-of-frames).
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to those of the site."""
    files.append(File.generated(config, "commands.md", content=reference()))
    return files


def reference() -> str:
    """Return the whole page."""
    from gaq.cli.app import app

    commands = list(_leaves(typer.main.get_command(app), "gaq"))
    index = ["| command | what it does |", "|---|---|"]
    index += [f"| [`{name}`](#{_anchor(name)}) | {_first(command.help)} |" for name, command in commands]
    return "\n\n".join([INTRODUCTION, "\n".join(index), *(_section(name, command) for name, command in commands)])


def _leaves(command: Any, name: str) -> Iterable[tuple[str, Any]]:
    """Yield every command that does something, with its full name; a group only holds others."""
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child, inner in children.items():
        yield from _leaves(inner, f"{name} {child}")


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
    usage = " ".join([name, *(_in_usage(p) for p in arguments),
                      *(f"{p.opts[0]} {p.metavar or 'VALUE'}" for p in options if p.required), "[OPTIONS]"])
    parts = [f"## {name} {{ #{_anchor(name)} }}", command.help, f"```\n{usage}\n```"]
    if command.epilog:
        parts.append(f"Example:\n\n```\n{command.epilog.removeprefix('Example: ')}\n```")
    if arguments:
        parts.append(_table("argument", [(f"`{p.metavar or p.name.upper()}`", _meaning(p)) for p in arguments]))
    panels = dict.fromkeys(p.rich_help_panel for p in options)
    for panel in panels:
        rows = [(_spelling(p), _meaning(p)) for p in options if p.rich_help_panel == panel]
        parts.append(_table("option" if panel is None else f"option: {panel[0].lower()}{panel[1:]}", rows))
    return "\n\n".join(parts)


def _in_usage(argument: Any) -> str:
    text = (argument.metavar or argument.name.upper()) + ("..." if argument.nargs == -1 else "")
    return text if argument.required else f"[{text}]"


def _spelling(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} `{option.metavar or 'VALUE'}`"


def _meaning(parameter: Any) -> str:
    text = parameter.help or ""
    default = parameter.default
    if parameter.required:
        text += " **Required.**"
    elif default not in (None, False, "", (), []) and not callable(default):
        shown = default if default is not True else "yes"
        text += f" Default: `{shown}`."
    return text.replace("|", "\\|").replace("\n", " ").strip()


def _table(heading: str, rows: list[tuple[str, str]]) -> str:
    return "\n".join([f"| {heading} | meaning |", "|---|---|", *(f"| {left} | {right} |" for left, right in rows)])


def _first(text: str) -> str:
    return text.split("\n\n")[0].replace("\n", " ")


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "-", name)
