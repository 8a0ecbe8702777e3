"""Errors as the command line says them."""

import pytest
import typer

from opera_cli.exits import Exit, one_line_errors
from opera_client.errors import Unauthorized


@pytest.mark.parametrize(
    ("command", "variable"), [("score", "OPERA_API_KEY"), ("weights push", "OPERA_ADMIN_KEY")]
)
def test_a_wrong_key_names_the_variable_that_holds_it(command, variable, capsys):
    with pytest.raises(typer.Exit) as ended, one_line_errors(command):
        raise Unauthorized("the API key is missing or wrong")
    assert ended.value.exit_code == Exit.BAD_INPUT
    assert f"set {variable}" in capsys.readouterr().err
