"""The `governance` command.

Rows go to stdout, sentences and progress to stderr. It exits with 0 when all is well, 1 on a finding
(a failed check, an id that is not found), 2 on wrong usage or bad input, 3 when the environment does not let
it (locked, full, no permission); an error is one clear line, never a traceback.

What does not belong here: the work. Each command calls one function of the package.
"""

from governance_pipeline.cli.main import main

__all__ = ["main"]
