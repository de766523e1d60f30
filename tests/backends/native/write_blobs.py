"""Write blobs of the tiny models to a folder, for the native tests: `python write_blobs.py FOLDER`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tiny import forcefield

from gaq.backends.native.potential import emitter

if __name__ == "__main__":
    for shape, recipe in (("robust", "fp32"), ("robust", "w4a8"), ("robust-l3", "w4a16"), ("so3krates", "w8a8")):
        (Path(sys.argv[1]) / f"{shape}-{recipe}.blob").write_bytes(emitter(forcefield(shape, recipe).stored).blob().data)
