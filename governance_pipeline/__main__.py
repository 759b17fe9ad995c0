"""`python -m governance_pipeline` is the `governance` command."""

from governance_pipeline.cli import main

if __name__ == "__main__":
    main()
