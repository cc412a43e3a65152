from __future__ import annotations

import logging

import pytest

from portway_proxy.logs import log_to_stderr


def test_a_line_has_level_name_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    logging.getLogger("portway_proxy.some").error("port %d is taken", 80)
    logging.getLogger("portway_proxy.some").debug("hidden")
    assert capsys.readouterr().err == "error portway_proxy.some port 80 is taken\n"


def test_a_value_cannot_begin_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    logging.getLogger("x").error("%s", "a\nerror x forged\r")
    assert capsys.readouterr().err == "error x a\\nerror x forged\\r\n"
