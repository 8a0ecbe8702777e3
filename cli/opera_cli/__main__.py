"""`python -m opera_cli` is `opera-reward`."""

from opera_cli.main import main

main()
