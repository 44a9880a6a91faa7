"""Everything that a run stores on the disk: databases and files, and what is read back from them."""

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
