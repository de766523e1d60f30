"""The program as a whole: its commands, and how errors become one line and an exit status."""

import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gaq.cli import (
    auditing,
    benchmarking,
    datasets,
    demonstration,
    evaluation,
    exporting,
    information,
    sensitivities,
    simulation,
    training,
)
from gaq.cli.terminal import one_line, say
from gaq.errors import GaqError, Interrupted
from gaq.interrupts import terminable
from gaq.optional import extras

FAILURE, USAGE = 1, 2
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # typer's own class or click's: it moved with a version


class Program(TyperGroup):
    """All commands; any error that a user can act on is one line on standard error, without a traceback."""

    def main(self, *arguments: Any, **settings: Any) -> Any:
        """Parse the arguments, run the command, and leave with its exit status."""
        try:
            with terminable(), extras():
                status = super().main(*arguments, **{**settings, "standalone_mode": False})
        except _UsageError as error:
            sys.exit(_usage(error))
        except Interrupted as error:
            say(one_line(str(error)))
            sys.exit(error.status)
        except BrokenPipeError:  # who reads has seen enough, as in `gaq info | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FAILURE)
        except (GaqError, OSError) as error:
            say(f"error: {one_line(_reason(error))}")
            sys.exit(FAILURE)
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            say("error: out of memory; take smaller batches, a smaller structure, or another device")
            sys.exit(FAILURE)
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run one command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as cause:
            raise Interrupted(cause) from None


app = typer.Typer(cls=Program, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  rich_markup_mode="markdown",
                  help="Geometry-aware quantization of equivariant force fields: train, compress, check, simulate.")
data = typer.Typer(no_args_is_help=True, help="Get, make and look at reference data.")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gaq {version('gaq')}")
        raise typer.Exit()


@app.callback()
def _program(show: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True,
                                                help="Show the version and leave.")] = False) -> None:
    """Compress equivariant force fields to a few bits, and see what it does to energies, forces and symmetry."""


for group, command, bare, example in (
    (app, training.train, True, "gaq train configs/ethanol-gfn2.yaml --set optimization.minutes=10"),
    (app, training.quantize, True, "gaq quantize ethanol.safetensors --recipe w4a8 --data ethanol-train.extxyz "
                                   "--out ethanol-w4a8.safetensors --minutes 10"),
    (app, evaluation.evaluate, True, "gaq evaluate ethanol.safetensors ethanol-w4a8.safetensors "
                                     "--data ethanol-test.extxyz --frames 200 --json results.json"),
    (app, evaluation.report, True, "gaq report results.json audit.json md.json --out report.html"),
    (app, auditing.audit, True, "gaq audit ethanol-w4.safetensors --data ethanol-test.extxyz --reference "
                                "ethanol.safetensors"),
    (app, sensitivities.sensitivity, True, "gaq sensitivity azobenzene-fp32.safetensors --data rmd17:azobenzene:1:train "
                                           "--recipe w4a8 --budget-forces 10 --out mixed.json"),
    (app, simulation.md, True, "gaq md ethanol-w4a8.safetensors ethanol --ensemble nvt --temperature 300 "
                               "--steps 20000 --out trajectory.extxyz"),
    (app, simulation.relax, True, "gaq relax ethanol-w4a8.safetensors ethanol --out relaxed.extxyz"),
    (app, benchmarking.bench, True, "gaq bench azobenzene-fp32.safetensors --backends torch-eager,engine "
                                    "--json bench.json --plot bench.svg"),
    (app, exporting.export, True, "gaq export ethanol-w4a8.safetensors --out ethanol-w4a8.gaqblob"),
    (app, information.info, False, "gaq info ethanol-w4a8.safetensors"),
    (app, demonstration.demo, False, "gaq demo --out demo"),
    (data, datasets.get, True, "gaq data get rmd17 azobenzene"),
    (data, datasets.label, True, "gaq data label ethanol --method gfn2-xtb --temperature 500 --frames 2000 "
                                 "--out ethanol.extxyz"),
    (data, datasets.info, True, "gaq data info rmd17:azobenzene:1:test"),
):
    group.command(no_args_is_help=bare, epilog=f"Example: {example}")(command)
app.add_typer(data, name="data")


def _usage(error: Any) -> int:
    """Say what is wrong with the arguments, or show the help where there were none."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return USAGE
    context = getattr(error, "ctx", None)
    advice = f" (gaq {context.command_path.partition(' ')[2]}".rstrip() + " --help tells more)" if context else ""
    say(f"error: {one_line(error.format_message())}{advice}")
    return USAGE


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, GaqError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _out_of_memory(error: Exception) -> bool:
    """PyTorch has a class of its own on accelerators, and a bare RuntimeError on the CPU."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or "allocate memory" in str(error)
