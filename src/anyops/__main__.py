"""``python -m anyops``: the same as the command ``anyops``."""

from .cli import main

if __name__ == "__main__":
    main()
