"""How a script of the study ends."""

import sys
from collections.abc import Callable

from arra_med.errors import RequestError


def exit_status(main: Callable[[], None]) -> int:
    """0, or 2 with the reason on stderr if what was asked for cannot be done."""
    try:
        main()
    except (RequestError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0
