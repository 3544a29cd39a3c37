"""``python -m arra_med``: the same command line as ``arra-med`` (for torchrun and srun)."""

import sys

from arra_med.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
