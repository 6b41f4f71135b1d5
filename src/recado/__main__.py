"""`python -m recado` is the command `recado`."""

from recado.cli.main import main

if __name__ == "__main__":
    main()
