"""`python -m bench`: run, status, report, claims, crosscheck, methods, tasks, data."""

from __future__ import annotations

import sys

import click

from bench import commands
from bench.errors import UserError
from tasks.data import DataError


def main() -> None:
    """Run a command; bad input is one line on stderr and exit code 2."""
    try:
        code = commands.cli.main(prog_name="python -m bench", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        sys.exit(2)
    except (UserError, DataError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        if isinstance(error, click.UsageError) and error.ctx is not None:
            message += f"  (see {error.ctx.command_path} --help)"
        print("error: " + " ".join(message.split()), file=sys.stderr)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt) as stop:
        said = str(stop.__cause__ or stop)  # click puts its own exception in the place of the first
        print(f"stopped; {said}" if said else "stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
