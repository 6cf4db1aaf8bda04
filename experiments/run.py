"""One run from the command line; the same as `jaxclust run`. See --help."""

import sys

from jaxclust.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
