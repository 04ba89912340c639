"""`python -m tilewright` is the program `tilewright`."""

from tilewright.cli.main import main

if __name__ == "__main__":
    main()
