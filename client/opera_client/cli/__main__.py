"""`python -m opera_client.cli` is `opera-reward`."""

from opera_client.cli.main import main

main()
