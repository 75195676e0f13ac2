"""`python -m tinyscout` is the command `tinyscout`."""
import sys

from tinyscout.cli import main

if __name__ == "__main__":
    sys.exit(main())
