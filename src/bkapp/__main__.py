"""``python -m bkapp`` is the command ``bkapp``."""

from bkapp.cli import main

main()
