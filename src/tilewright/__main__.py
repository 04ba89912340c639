"""`python -m tilewright` is the program `tilewright`."""

from tilewright.cli.start import main

if __name__ == "__main__":
    main()
