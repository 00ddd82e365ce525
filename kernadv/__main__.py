"""``python -m kernadv`` is the command ``kernadv``."""

from kernadv.cli import main

main()
