"""Command line: `python -m datatools.restore.evaluate`."""

from datatools.restore.fit.evaluate import main

if __name__ == "__main__":
    main(prog_name="python -m datatools.restore.evaluate")
