"""`python -m vidclip.cli`: the program `vidclip`, for launchers that start a module, such as torchrun."""

from .main import main

if __name__ == "__main__":
    main(prog_name="vidclip")
