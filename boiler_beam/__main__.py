"""`python -m boiler_beam`: the same as the console script `boiler-beam`."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
