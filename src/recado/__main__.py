"""The command `recado`, also `python -m recado`: Ctrl-C ends it without a traceback also while it loads."""

import sys

try:
    from recado.cli.main import main
except KeyboardInterrupt:
    sys.exit(130)

__all__ = ["main"]

if __name__ == "__main__":
    main()
