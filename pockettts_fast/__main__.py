"""``python -m pockettts_fast`` is the command ``pockettts-fast``."""

from pockettts_fast.cli import main

if __name__ == "__main__":
    main()
