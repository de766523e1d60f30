"""`python -m gaq` is `gaq`; torchrun starts it so."""

from gaq.cli import main

main()
