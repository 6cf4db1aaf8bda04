"""One run from the command line; the same as `jaxclust run`. See --help."""

import sys

from jaxclust.cli import script

if __name__ == "__main__":
    script(["run", *sys.argv[1:]])
