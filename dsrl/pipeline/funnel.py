"""The funnel of a run in words: how many samples went where, and why."""

from __future__ import annotations

from dsrl.storage.run_store import SampleCounts


def list_funnel(samples: SampleCounts) -> list[list[str]]:
    """Return rows of name, number and meaning, in the order of the stages."""
    dropped = samples["dropped"]
    optional = [
        ["contaminated", str(samples["contaminated"]), "copies of test items, set aside"],
        ["duplicates", str(samples["duplicates"]), "copies of other samples, set aside"],
        ["held out", str(samples["held_out"]), "for the evaluation during the training (--eval-every)"],
    ]
    return [
        ["initial", str(samples["initial"]), "written by the teacher"],
        ["verified", str(samples["verified"]), "the votes agree on the label, or the judge accepts it"],
        [
            "solved / unsolved",
            f"{samples['solved']} / {samples['unsolved']}",
            "by one greedy attempt of the base model",
        ],
        ["harder / easier", f"{samples['harder']} / {samples['easier']}", "rewritten from these, and verified"],
        ["scored", str(samples["scored"]), "verified, harder and easier samples"],
        *(row for row in optional if row[1] != "0"),
        ["selected", str(samples["selected"]), "the training set"],
        [
            "dropped",
            str(sum(dropped.values())),
            ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in dropped.items()),
        ],
    ]
