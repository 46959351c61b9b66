"""
Run a script or module with recording switched on by the environment:

    FAULTLINE_RECORD=run/ FAULTLINE_LAYERS=0-3 python -m faultline serve.py --port 8000
    FAULTLINE_RECORD=run/ python -m faultline -m my_package.serve

FAULTLINE_LAYERS, FAULTLINE_STEPS, FAULTLINE_NAMES, FAULTLINE_MAX_BYTES and FAULTLINE_KEEP are the arguments of
`faultline.record`. Without FAULTLINE_RECORD the script runs as if faultline were not there.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help") or arguments == ["-m"]:
        print((__doc__ or "").strip())
        sys.exit(0 if arguments and arguments[0] != "-m" else 2)
    from .environment import Settings, record_loaded_models

    try:
        settings = Settings.from_environment()
    except ValueError as error:
        sys.exit(str(error))
    if settings is not None:
        record_loaded_models(settings)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, "")
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
