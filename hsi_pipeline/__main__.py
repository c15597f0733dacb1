"""`python -m hsi_pipeline`: the command line, for programs that know the interpreter only."""

from hsi_pipeline.cli import main

if __name__ == "__main__":
    main()
