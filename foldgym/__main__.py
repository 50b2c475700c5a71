"""`python -m foldgym` is the same as `foldgym`."""

import sys

from foldgym.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
