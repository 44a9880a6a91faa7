"""What a run keeps on the disk: SQLite, files, and everything that is read back from them."""

#: The stages of a run, in the paper's words and order. ``--stop-after`` takes one of these names.
STAGES = (
    "keywords",
    "passages",
    "pattern",
    "initial",
    "verified",
    "attempted",
    "adapted",
    "scored",
    "selected",
    "trained",
    "evaluated",
)
