"""`python -m charsweep.track`: see `charsweep.track.process`."""

from charsweep.track.process import main

if __name__ == "__main__":
    raise SystemExit(main())
