"""``python -m ksyms``."""

from ._cli import program

if __name__ == "__main__":
    program()
