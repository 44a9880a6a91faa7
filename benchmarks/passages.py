"""Do the settings `--passage-…` find better passages? A judge read them one by one, without knowing which way found them.

    python benchmarks/passages.py                                             # the table, from the two files beside this one
    python benchmarks/passages.py --corpus PATH --encoder MODEL --sheet FILE  # draw passages, and write a sheet to judge

Keywords of `mednli` and `medqa`, as a language model answers the prompt for keywords. Each way makes a ranking; passages are
taken from it at the same quantiles (20, for some ways 40), because a run draws from the whole ranking. So two ways make
pairs: one for each task and quantile. The sheet is shuffled and does not name the ways. Kept are only ids: which way drew
which (passages_drawn.csv), and the verdicts (passages_judged.csv). The texts come from the corpus (MedQuAD, 27,254 of them).

On topic, mednli: a teacher could write a sentence of a hospital's record from it (complaints, findings, tests, course or
treatment of patients). On topic, medqa: it holds knowledge that an exam question could ask for (mechanism, presentation,
cause, diagnosis, treatment). A passage that holds such a thing in less than a third of its text is not on topic. Distinct:
it has content of its own; not a template in which only a name changes, a paragraph that stands in many pages, a list of
links or codes, or what another passage of the same way and task says as well.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

from dsrl.corpus.index import ensure_index
from dsrl.corpus.ranking import Ranking, find_passages
from dsrl.corpus.reader import Corpus
from dsrl.plugins.binding import load
from dsrl.types import PluginRef

KEYWORDS = {
    "mednli": (
        "Clinical natural language inference\nclinical notes\nmedical records\ntextual entailment\npatient history\n"
        "hospital discharge summary\ndiagnosis\nsymptoms\nclinical findings\nmedical reasoning"
    ).split("\n"),
    "medqa": (
        "Clinical medicine\nmedical licensing exam\nUSMLE\nclinical case\npatient diagnosis\ninternal medicine\n"
        "pathophysiology\npharmacology\ntreatment and management\ndifferential diagnosis"
    ).split("\n"),
}
#: Passages that a way finds: the paper's number, and the number of samples of a run.
PAPER_SIZE, SIZE = 10_000, 500
#: Passages that are reranked, so that the best of them are others than without it.
RERANK_TOP = 1_000
QUANTILES = [(number + 0.5) / 20 for number in range(20)]
#: For the ways of which more is to be known.
MORE_QUANTILES = [*QUANTILES, *((number + 0.25) / 20 for number in range(20))]
MORE = ("paper", "distinct, 10,000", "all but rerank, 10,000", "all but rerank", "all")
DRAWS = 10_000
DRAWN = Path(__file__).with_name("passages_drawn.csv")
VERDICTS = Path(__file__).with_name("passages_judged.csv")
SHOWN = 2_048

#: Task and number of the quantile -> id.
Drawn = dict[tuple[str, int], str]


def list_ways(encoder: str) -> dict[str, tuple[int, Ranking]]:
    """Return name -> number of passages, and how they are found. The first one is the paper's way."""
    ways = {
        "paper": (PAPER_SIZE, Ranking()),
        "distinct, 10,000": (PAPER_SIZE, Ranking(is_distinct=True)),
        "first 500": (SIZE, Ranking()),
        "queries each": (SIZE, Ranking(is_fused=True)),
        "distinct": (SIZE, Ranking(is_distinct=True)),
        "diversity 0.5": (SIZE, Ranking(diversity=0.5)),
        "spread": (SIZE, Ranking(is_spread=True)),
        "all but rerank, 10,000": (PAPER_SIZE, Ranking(True, True, 0.5, True)),
        "all but rerank": (SIZE, Ranking(True, True, 0.5, True)),
    }
    if encoder:
        ways["rerank"] = (SIZE, Ranking(rerank=encoder, rerank_top=RERANK_TOP))
        ways["all"] = (SIZE, Ranking(True, True, 0.5, True, encoder, RERANK_TOP))
    return ways


def draw(corpus: Path, encoder: str) -> dict[str, Drawn]:
    """Return way -> what was drawn from its rankings."""
    retriever = load(PluginRef("retriever", "bm25"), "retriever")
    drawn: dict[str, Drawn] = {}
    with tempfile.TemporaryDirectory() as folder:
        index = ensure_index(retriever, Corpus([corpus]), Path(folder))
        for way, (size, ranking) in list_ways(encoder).items():
            drawn[way] = {}
            for task, keywords in KEYWORDS.items():
                found = find_passages(retriever, index, keywords, size, ranking)
                titles = len({passage.title for passage in found})
                print(f"{way}, {task}: {len(found):,} passages with {titles:,} different titles", flush=True)
                for number, quantile in enumerate(MORE_QUANTILES if way in MORE else QUANTILES):
                    drawn[way][task, number] = found[int(quantile * len(found))].id
    return drawn


def write_drawn(drawn: dict[str, Drawn]) -> None:
    with DRAWN.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["way", "task", "quantile", "id"])
        writer.writerows([way, *place, id] for way, places in drawn.items() for place, id in places.items())


def read_drawn() -> dict[str, Drawn]:
    drawn: dict[str, Drawn] = {}
    with DRAWN.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            drawn.setdefault(row["way"], {})[row["task"], int(row["quantile"])] = row["id"]
    return drawn


def write_sheet(path: Path, drawn: dict[str, Drawn], corpus: Path) -> None:
    """Write every passage once for each task, in random order, without the ways that found it."""
    order = sorted({(task, id) for places in drawn.values() for (task, _), id in places.items()})
    passages = {passage.id: passage for passage in Corpus([corpus])}
    Random(0).shuffle(order)
    order.sort(key=lambda key: key[0])  # one task after the other; sorting keeps the random order of equals
    with path.open("w", encoding="utf-8") as file:
        for number, (task, id) in enumerate(order, 1):
            passage = passages[id]
            file.write(f"--- {number} {task} {id}\n{passage.title}\n{passage.text[:SHOWN]}\n")


def read_verdicts() -> dict[tuple[str, str], tuple[bool, bool, str]]:
    """Return task and id -> whether it is on topic, whether it is distinct, and the id of one that says the same."""
    with VERDICTS.open(encoding="utf-8", newline="") as file:
        return {
            (row["task"], row["id"]): (row["on_topic"] == "1", row["distinct"] == "1", row["same_as"])
            for row in csv.DictReader(file)
        }


def judge(way: Drawn, verdicts: dict[tuple[str, str], tuple[bool, bool, str]]) -> dict[tuple[str, int], list[bool]]:
    """Return for each passage of a way: on topic, distinct, both."""
    judged = {}
    for (task, number), id in way.items():
        is_on_topic, is_distinct, same = verdicts[task, id]
        before = {other for (of, at), other in way.items() if of == task and at < number}
        is_distinct = is_distinct and id not in before and same not in before
        judged[task, number] = [is_on_topic, is_distinct, is_on_topic and is_distinct]
    return judged


def compute_interval(pairs: Sequence[int]) -> tuple[float, float]:
    """Return the 95% interval of the mean of differences (percentile bootstrap over pairs)."""
    rng = Random(0)
    means = sorted(sum(rng.choices(pairs, k=len(pairs))) / len(pairs) for _ in range(DRAWS))
    return means[int(0.025 * DRAWS)], means[int(0.975 * DRAWS)]


def print_table() -> None:
    drawn, verdicts = read_drawn(), read_verdicts()
    base = judge(drawn["paper"], verdicts)
    print("| way | judged | on topic | distinct | both | both, less the paper's way | 95%, paired |\n|" + " --- |" * 7)
    for name, way in drawn.items():
        rows = judge(way, verdicts)
        pairs = [row[2] - base[place][2] for place, row in rows.items()]
        low, high = compute_interval(pairs)
        shares = " | ".join(f"{sum(row[at] for row in rows.values()) / len(rows):.0%}" for at in range(3))
        print(f"| {name} | {len(rows)} | {shares} | {sum(pairs) / len(pairs):+.0%} | {low:+.0%} to {high:+.0%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="the passages of MedQuAD")
    parser.add_argument(
        "--encoder", default="", help="a model of sentence-transformers; without it, two ways are left out"
    )
    parser.add_argument("--sheet", type=Path, help="write the passages to judge into this file")
    options = parser.parse_args()
    if options.corpus:
        drawn = draw(options.corpus, options.encoder)
        write_drawn(drawn)
        if options.sheet:
            write_sheet(options.sheet, drawn, options.corpus)
    else:
        print_table()


if __name__ == "__main__":
    main()
