"""``python -m bkapp`` is the command ``bkapp``."""

from bkapp.cli import main

if __name__ == "__main__":
    main()
