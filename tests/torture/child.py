"""``dsrl`` as its users start it, except that a failed call is repeated after a short pause. Run as a file."""

from __future__ import annotations

import os
from pathlib import Path

import dsrl.teaching.patience
from dsrl.cli import main

if __name__ == "__main__":
    if not hasattr(dsrl.teaching.patience, "LONGEST_PAUSE"):
        raise RuntimeError("the longest pause between tries has another name now; the torture suite must know it")
    dsrl.teaching.patience.LONGEST_PAUSE = float(os.environ["TORTURE_LONGEST_PAUSE"])
    Path(os.environ["TORTURE_STARTED"]).touch()
    main()
