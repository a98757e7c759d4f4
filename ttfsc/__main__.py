"""python -m ttfsc."""

from ttfsc.cli import main

main()
