"""Entry point of `python -m tinyscout`, the same as the command `tinyscout`."""
import sys

from tinyscout.cli import main

if __name__ == "__main__":
    sys.exit(main())
