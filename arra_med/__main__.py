"""``python -m arra_med``: the same command line as ``arra-med`` (for torchrun and srun)."""

import sys


def run() -> int:
    """Run the command line; Ctrl-C while it is still being imported ends as later on.

    Returns:
        The exit code.
    """
    try:
        from arra_med.cli.main import main

        return main()
    except KeyboardInterrupt:
        from arra_med.errors import EXIT_INTERRUPTED, INTERRUPTED

        sys.stderr.write(f"error: {INTERRUPTED}\n")
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(run())
