"""`python -m kd2mobile`."""

from kd2mobile.cli.commands import run

if __name__ == "__main__":
    run()
