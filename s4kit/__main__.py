"""`python -m s4kit` is the shell command `s4kit`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
