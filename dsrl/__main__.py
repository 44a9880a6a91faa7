"""Run the command line: ``python -m dsrl``."""

from dsrl.cli import main

main()
