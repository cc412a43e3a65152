"""`python -m portway_operator` is the `portway` command."""

from portway_operator.cli import main

main()
