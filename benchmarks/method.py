"""Does the method work? Rules of selection, compared in worlds of graded skill and on `mednli`.

    python benchmarks/method.py --hours      # how long what is missing will take
    python benchmarks/method.py              # make what is missing; a kill loses at most one training
    python benchmarks/method.py --report     # tables, and the plots in docs/
    python benchmarks/method.py --short      # a few minutes: tests the machinery and shows nothing

Everything below was fixed before the first run, except for the later comparisons and the rates of the rules
with 3 seeds.

Worlds. `chains`: 32 possible answers, right labels. `classes-0`, `classes-10`, `classes-20`: three possible answers,
and so many percent wrong labels. `unanimous-20`: the same, but the teacher agrees with itself on its wrong labels, so
that no filter can find them. Each of these has three base models, each with rules, samples and test items of its own.
`mednli` with the base model `tiny` is the negative control: there the model learns one habit, which every training
set teaches.

Primary comparison: the rule `online` (label agreement of at least 0.75, 8 attempts, choice during the training) against
`potential` (the paper's Equation 7 on all samples, 64 attempts). The measure is the difference of the accuracies on the test
split, averaged over `classes-10` and `classes-20` and their three base models, with 10 paired seeds.

Secondary, with Holm's correction: `online` against `potential` in each world; `filtered` (label agreement of at least 0.75,
pass rate of at most 0.9, then the highest p(1-p)) against `potential` in each world, with 10 seeds too; every other rule
against `potential` in each world, with 3 paired seeds. A/A: `potential` again, with new attempts and 10 seeds; its
difference should be none.

Second comparison. After three seeds of the primary one, `online` looked worse than `potential` where labels are right. On
the development split of one base model, a cheaper rule without choice during the training lost little there:
`potential, filtered, 8 attempts` is the paper's Equation 7 on samples with a label agreement of at least 0.75, with 8
attempts in place of 64. It was added before any of its runs on a test split, with 10 paired seeds in every world, and
counts among the secondary ones.

Third comparison, for the defaults of `dsrl run`. The rules with 8 attempts lost where labels are right, and a filter
with 64 attempts did not seem to. `potential, filtered, early stop` is the paper's Equation 7 on samples with a label
agreement of at least 0.75, with attempts that stop at a confidence of 0.94 (chosen by `benchmarks/attempts.py`, without
a training). It is compared with `potential` on ten new seeds, 10 to 19, which no rule has seen. It was written here
before any of its runs. It becomes the default if the difference is above 0 with its whole 95% interval in the mean of
`classes-10` and `classes-20`, and the interval in the mean of `chains` and `classes-0` does not reach below -0.5
points. Its differences in the single worlds are corrected by Holm among themselves.

Fourth comparison, for the threshold of the filter. On the development splits, 0.9 is worse than 0.75, and 0.6 looks a
little better in four of five worlds (two seeds, one base model). So `potential, filtered at 0.6` is compared with
`potential, filtered, early stop`, which has 0.75, on the seeds 10 to 19 in the five worlds of chains, where alone the
votes disagree. It was written here before these runs. The default becomes 0.6 if the mean difference over the five
worlds is above 0 with its whole 95% interval, and else stays 0.75.

A seed determines a pool (500 samples, and 500 that are rewritten from them, each with 16 votes) and 64 attempts at
each sample, which all rules share. Every training has 40 steps of 32 prompts with 16 answers: a rule that selects
more or fewer samples sees them less or more often. The learning rate of each rule in each world is the best of four
on the development split of the first base model, with two seeds that are used for nothing else. The rules with 3 seeds try
the two lowest: when their turn came, a higher one had been the best for 2 of 18 pairs of rule and world, by less
than a point.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from attempts import stop_early

from dsrl import Example, Message, PluginRef, Prompt, Request, TrainItem
from dsrl.pipeline.attempt_stopping import FIRST_ATTEMPTS, SelectionRule
from dsrl.pipeline.stages.scored import compute_score
from dsrl.pipeline.stages.selected import draw_order, filter_scores, select
from dsrl.pipeline.stages.trained import make_job
from dsrl.pipeline.stages.verified import find_majority
from dsrl.plugins.base_models import resolve_model
from dsrl.plugins.binding import Plugin, load
from dsrl.plugins.scoring import grade
from dsrl.settings import ONLINE, Settings
from dsrl.types import UNREADABLE, Score

#: Samples that the teacher writes; as many are rewritten from them.
N = 500
VOTES = 16
ATTEMPTS = 64
M = 256
#: Every training has so many steps, of so many prompts.
STEPS, BATCH = 40, 32
SEEDS, OTHER_SEEDS, THIRD_SEEDS, TUNING_SEEDS = range(10), range(3), range(10, 20), (100, 101)
RESULTS = Path(__file__).parent / "results" / "method.jsonl"

#: The settings of `potential`.
PAPER = {"attempts": ATTEMPTS, "attempt_confidence": 0.0, "min_agreement": 0.0}
#: Rule -> the settings that differ from those of `potential`.
RULES: dict[str, dict[str, Any]] = {
    "potential": {},
    "online": {"selection": "online", "min_agreement": 0.75, "attempts": 8},
    "filtered": {"selection": "learnability", "min_agreement": 0.75, "max_pass_rate": 0.9},
    "potential again": {},
    "potential, filtered, 8 attempts": {"min_agreement": 0.75, "attempts": 8},
    "random": {"selection": "random"},
    "easy": {"selection": "easy"},
    "hard": {"selection": "hard"},
    "full": {"selection": "full"},
    "learnability": {"selection": "learnability"},
    "potential, filtered": {"min_agreement": 0.75},
    "without adaptation": {"adapt": False},
    "potential, filtered, early stop": {"min_agreement": 0.75, "attempt_confidence": 0.94},
    "potential, filtered at 0.6": {"min_agreement": 0.6, "attempt_confidence": 0.94},
    "potential, filtered at 0.9": {"min_agreement": 0.9, "attempt_confidence": 0.94},
}
#: The rules of the comparisons with 10 seeds, and the A/A, which has the learning rate of `potential`.
PRIMARY, AGAIN = ("potential", "online", "filtered"), "potential again"
#: The rule of the second comparison, with 10 seeds too.
SECOND = "potential, filtered, 8 attempts"
#: The rule of the third comparison, on seeds of its own.
THIRD = "potential, filtered, early stop"
#: Other thresholds of its filter, which are compared on the development splits.
THRESHOLDS = ("potential, filtered at 0.6", "potential, filtered at 0.9")
#: The rule of the fourth comparison, the only one of these that is run on the test splits.
LOWER = THRESHOLDS[0]
COMPARED = (*PRIMARY, SECOND, AGAIN)
OTHERS = tuple(rule for rule in RULES if rule not in (*COMPARED, THIRD, *THRESHOLDS))
#: Rules that need no attempts.
WITHOUT_SCORES = ("random", "full")


@dataclass(frozen=True)
class World:
    """Where rules are compared.

    Attributes:
        task, task_options: the task; the option ``world`` comes from the base.
        teacher, teacher_options: who writes the samples and votes.
        bases: name of a base model -> options of the task.
        rates: the learning rates that are tried.
        max_tokens: maximum length of an answer.
        seconds: CPU seconds of a pool, of the attempts at it, and of a training with its evaluation, for the forecast.
    """

    task: str
    teacher: str
    teacher_options: Mapping[str, Any]
    bases: Mapping[str, Mapping[str, Any]]
    rates: tuple[float, ...] = (1.25e-4, 2.5e-4, 5e-4, 1e-3)
    max_tokens: int = 8
    seconds: tuple[float, float, float] = (3.0, 3.0, 7.5)


_CHAINS = {f"chains-{world}": {"world": world} for world in (1, 2, 3)}
WORLDS = {
    "chains": World("chains", "noisy", {"wrong": 0.0}, _CHAINS),
    "classes-0": World("chain_classes", "noisy", {"wrong": 0.0}, _CHAINS),
    "classes-10": World("chain_classes", "noisy", {"wrong": 0.1}, _CHAINS),
    "classes-20": World("chain_classes", "noisy", {"wrong": 0.2}, _CHAINS),
    "unanimous-20": World("chain_classes", "noisy", {"wrong": 0.2, "unanimous": True}, _CHAINS),
    "mednli": World("mednli", "procedural", {}, {"tiny": {}}, (5e-5, 1e-4, 2e-4, 4e-4), 48, (5.0, 12.0, 40.0)),
}


@dataclass(frozen=True)
class Job:
    """One training. A job with ``rate`` tunes: it is measured on the development split."""

    world: str
    base: str
    seed: int
    rule: str
    rate: float | None = None

    @property
    def key(self) -> str:
        return json.dumps([self.world, self.base, self.seed, self.rule, self.rate])

    @property
    def pool_key(self) -> tuple[str, str, int, bool]:
        return self.world, self.base, self.seed, bool(RULES[self.rule].get("adapt", True))


def list_rates(world: str, rule: str) -> tuple[float, ...]:
    """List the learning rates that are tried, lowest first."""
    rates = WORLDS[world].rates
    return rates[:2] if rule in (*OTHERS, *THRESHOLDS) else rates


def list_jobs(worlds: Sequence[str]) -> Iterator[Job]:
    """List all trainings in their order: the comparisons with 10 seeds first. Rules of one pool come together."""
    yield from list_tunings(worlds, (*PRIMARY, SECOND))
    yield from list_trainings(worlds, [seed for seed in SEEDS if seed not in OTHER_SEEDS], COMPARED)
    yield from list_tunings(worlds, OTHERS)
    yield from list_trainings(worlds, OTHER_SEEDS, (*COMPARED, *OTHERS))
    yield from list_tunings(worlds, (THIRD,))
    yield from list_trainings(worlds, THIRD_SEEDS, ("potential", THIRD))
    yield from list_tunings(worlds, THRESHOLDS)
    yield from list_trainings([name for name in worlds if name != "mednli"], THIRD_SEEDS, (LOWER,))


def list_tunings(worlds: Sequence[str], rules: Sequence[str]) -> Iterator[Job]:
    """List the trainings that choose learning rates."""
    for name in worlds:
        base = next(iter(WORLDS[name].bases))
        for seed in TUNING_SEEDS:
            yield from (Job(name, base, seed, rule, rate) for rule in rules for rate in list_rates(name, rule))


def list_trainings(worlds: Sequence[str], seeds: Sequence[int], rules: Sequence[str]) -> Iterator[Job]:
    """List the trainings that are compared, all worlds and base models seed by seed."""
    for seed in seeds:
        for name in worlds:
            yield from (Job(name, base, seed, rule) for base in WORLDS[name].bases for rule in rules)


# -- results ----------------------------------------------------------------------------------------------------------


class Results:
    """The results of earlier runs of this script, one JSON object in a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_key: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:  # a kill in the middle of a line
            path.write_bytes(whole)
        for line in whole.splitlines():
            record = json.loads(line)
            self.by_key[record["key"]] = record

    def add(self, key: str, **values: Any) -> None:
        record = {"key": key, **values}
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.by_key[key] = record

    def find_rate(self, world: str, rule: str) -> float:
        """Return the learning rate that was best on the development split; of equal ones the lowest."""
        base = next(iter(WORLDS[world].bases))
        tuned = "potential" if rule == AGAIN else rule

        def accuracy(rate: float) -> float:
            keys = [Job(world, base, seed, tuned, rate).key for seed in TUNING_SEEDS]
            return sum(self.by_key[key]["accuracy"] for key in keys)

        return max(list_rates(world, tuned), key=accuracy)


# -- one pool ---------------------------------------------------------------------------------------------------------


@dataclass
class Item:
    """A sample with its label.

    Attributes:
        agreement: share of the readable votes that are the label.
        is_right: whether the label is right.
        is_solved: whether the greedy attempt was right; None if there was none.
    """

    id: str
    input: str
    label: str
    agreement: float
    is_right: bool
    output: str
    is_solved: bool | None = None


@dataclass
class Pool:
    """The samples of a seed, and how many base answers they took."""

    items: dict[str, Item]
    answers: int
    replies: int
    attempts: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)


def ask_teacher(teacher: Plugin[Any], purpose: Any, text: str, variables: Mapping[str, str], n: int = 1) -> list[str]:
    request = Request(purpose, "", (Message("user", text),), 0.7, 256, n=n, variables=variables)
    return [reply.text for reply in asyncio.run(teacher.hook.complete(request=request)).replies]


class Subject:
    """A base model with a task: it makes pools, trains and is measured."""

    def __init__(self, world: str, base: str) -> None:
        self.world, self.base = WORLDS[world], base
        options = self.world.bases[base]
        self.task = load(PluginRef("task", self.world.task, options), "task")
        self.teacher = load(PluginRef("teacher", self.world.teacher, self.world.teacher_options), "teacher")
        self.teacher.hook.prepare(task=self.task, model="")
        self.folder = resolve_model(base).location
        self.sampler = load(PluginRef("sampler", "transformers", {"model": self.folder}), "sampler")
        self.trainer = load(PluginRef("trainer", "grpo"), "trainer")
        self.instruction = self.task.hook.output_instruction()

    def make_prompt(self, text: str) -> Prompt:
        return Prompt(f"{text} {self.instruction}")

    def answer(self, sampler: Plugin[Any], inputs: Sequence[str], n: int, temperature: float, seed: int) -> list[Any]:
        texts: list[Any] = asyncio.run(
            sampler.hook.sample(
                prompts=[self.make_prompt(text) for text in inputs],
                n=n,
                temperature=temperature,
                top_p=1.0,
                max_tokens=self.world.max_tokens,
                seed=seed,
            )
        )
        return texts

    def count_right(self, text: str, label: str, outputs: Sequence[str]) -> int:
        counts = Counter(outputs)
        return sum(n for output, n in counts.items() if grade(self.task, output, label, text)[1])

    def make_pool(self, seed: int, adapt: bool) -> Pool:
        """Let the teacher write, rewrite and label the samples of a seed."""
        wanted = N if adapt else 2 * N
        written = ask_teacher(self.teacher, "write", f"seed {seed}", {"passage": "", "domain": ""}, 2 * wanted)
        samples = list({sample["input"]: sample for sample in map(json.loads, written)}.values())[:wanted]
        items = self._verify({f"1-{slot:05d}": sample for slot, sample in enumerate(samples)})
        answers = 0
        if adapt:
            initial = list(items.values())
            greedy = self.answer(self.sampler, [item.input for item in initial], 1, 0.0, seed)
            answers = len(initial)
            known = {sample["input"] for sample in samples}
            rewritten: dict[str, dict[str, str]] = {}
            for item, outputs in zip(initial, greedy, strict=True):
                item.is_solved = self.count_right(item.input, item.label, outputs) > 0
                direction, letter = ("harder", "h") if item.is_solved else ("easier", "e")
                variables = {"direction": direction, "input": item.input, "domain": ""}
                text = f"seed {seed} {direction} {item.input}"
                sample = json.loads(ask_teacher(self.teacher, "rewrite", text, variables)[0])
                if sample["input"] not in known:
                    known.add(sample["input"])
                    rewritten[f"{item.id}{letter}"] = sample
            items |= self._verify(rewritten)
        return Pool(items, answers, wanted + (N if adapt else 0) + VOTES * len(items))

    def _verify(self, samples: Mapping[str, Mapping[str, str]]) -> dict[str, Item]:
        items = {}
        for name, sample in samples.items():
            text = sample["input"]
            outputs = [sample["output"], *ask_teacher(self.teacher, "solve", text, {"input": text}, VOTES)]
            read = [self.task.hook.process_prediction(output=output, input=text) for output in outputs]
            label, _ = find_majority(read)
            if label is None:
                continue
            readable = [answer for answer in read if answer is not UNREADABLE]
            right = self.task.hook.process_label(output=self.task.hook.procedural_solve(input=text).output, input=text)
            agreement = readable.count(label) / len(readable)
            items[name] = Item(name, text, label, agreement, label == right, outputs[read.index(label)])
        return items

    def make_settings(self, rule: str, seed: int) -> Settings:
        """Return the settings of a rule in a run."""
        return Settings(task=(self.world.task,), select=M, seed=seed, **{**PAPER, **RULES[rule]})

    def attempt(self, pool: Pool, seed: int) -> dict[str, np.ndarray]:
        """Return id -> which of 64 attempts at the sample are right; the same seed is asked once."""
        if seed not in pool.attempts:
            items = list(pool.items.values())
            texts = self.answer(self.sampler, [item.input for item in items], ATTEMPTS, 0.7, seed)
            pool.attempts[seed] = {}
            for item, outputs in zip(items, texts, strict=True):
                is_right = {text: self.count_right(item.input, item.label, [text]) > 0 for text in set(outputs)}
                pool.attempts[seed][item.id] = np.array([is_right[text] for text in outputs])
        return pool.attempts[seed]

    def score(self, pool: Pool, rule: str, seed: int) -> list[Score]:
        """Measure the pass rates of a pool with as many of the 64 attempts as the rule makes."""
        if rule in WITHOUT_SCORES:
            return [Score(item, 1, 1, 1.0) for item in pool.items]  # nothing rests on these
        made, settings = self.attempt(pool, seed + 1000 if rule == AGAIN else seed), self.make_settings(rule, seed)
        counts = dict.fromkeys(made, settings.attempts)
        if settings.attempt_confidence:
            counts = dict.fromkeys(made, FIRST_ATTEMPTS)
            kept = [item.id for item in pool.items.values() if item.agreement >= settings.min_agreement]
            kept.sort(key=lambda name: draw_order(name, seed))
            selection = SelectionRule(settings.selection, settings.select, settings.attempts)
            rows = np.array([made[name] for name in kept])
            numbers = stop_early(rows, selection, settings.attempt_confidence, f"{seed}:1").tolist()
            counts |= dict(zip(kept, numbers, strict=True))
        passed = {name: int(right[: counts[name]].sum()) for name, right in made.items()}
        return [Score(name, n, passed[name], compute_score(passed[name], n)) for name, n in counts.items()]

    def choose(self, pool: Pool, rule: str, seed: int, scores: Sequence[Score]) -> list[Score]:
        """Choose the training set of a rule; for `online`, the pool that the trainer chooses from."""
        settings = self.make_settings(rule, seed)
        agreements = {item.id: item.agreement for item in pool.items.values()}
        candidates, _ = filter_scores(scores, settings, agreements)
        by_id = {score.sample: score for score in candidates}
        static = "full" if settings.selection == ONLINE else settings.selection
        return [by_id[name] for name in select(candidates, M, static, seed, never_solved=settings.never_solved)]

    def train(self, pool: Pool, job: Job, rate: float) -> dict[str, Any]:
        """Choose, train and measure."""
        started = time.process_time()
        scores = self.score(pool, job.rule, job.seed)
        chosen = self.choose(pool, job.rule, job.seed, scores)
        items = [self._make_item(pool.items[score.sample], score) for score in chosen]
        is_online = RULES[job.rule].get("selection") == ONLINE
        choose = min(M, len(items)) if is_online else 0
        epochs = STEPS * BATCH // (choose or len(items))
        if (
            not is_online and epochs * len(items) != STEPS * BATCH
        ):  # other than M samples: whole copies, and a part of one
            rest = random.Random(job.seed).sample(items, STEPS * BATCH - epochs * len(items))
            copies = [*items * epochs, *rest]
            items = [replace(item, id=f"{item.id}#{number // len(items)}") for number, item in enumerate(copies)]
            epochs = 1
        settings = Settings(
            task=(self.world.task,),
            seed=job.seed,
            learning_rate=rate,
            epochs=epochs,
            batch_size=BATCH,
            max_completion_tokens=self.world.max_tokens,
            device="cpu",
        )
        steps = []
        with tempfile.TemporaryDirectory() as name:
            model = Path(name) / "model"
            self.trainer.hook.train(
                job=make_job(settings, self.folder, items, model, Path(name) / "work", choose=choose),
                task=self.task,
                on_step=steps.append,
            )
            right = self.measure(str(model), "test" if job.rate is None else "dev")
        assert is_online or len(steps) == STEPS
        trained_on = [name.partition("#")[0] for step in steps for name in step.rewards]
        attempts = 0 if job.rule in WITHOUT_SCORES else sum(score.attempts for score in scores)
        prompts = len(steps) * BATCH + sum(int(step.metrics.get("refilled", 0)) for step in steps)
        if job.rule == AGAIN:
            first_scores = self.score(pool, "potential", job.seed)
            first = {score.sample for score in self.choose(pool, "potential", job.seed, first_scores)}
            right["overlap"] = len(first.intersection(trained_on)) / len(chosen)
        return {
            **right,
            "learning_rate": rate,
            "selected": len(set(trained_on)),
            "wrong": sum(not pool.items[name].is_right for name in trained_on) / len(trained_on),
            "pool": len(pool.items),
            "pool_wrong": sum(not item.is_right for item in pool.items.values()) / len(pool.items),
            "live": 1 - sum(step.metrics["equal_groups"] for step in steps) / len(steps),
            "steps": len(steps),
            "teacher_replies": pool.replies,
            "base_answers": pool.answers + attempts + prompts * settings.group_size,
            "cpu_seconds": round(time.process_time() - started, 1),
        }

    def _make_item(self, item: Item, score: Score) -> TrainItem:
        return TrainItem(
            item.id,
            self.make_prompt(item.input),
            item.input,
            item.label,
            attempts=score.attempts,
            passed=score.passed,
            output=item.output,
            is_solved=item.is_solved,
        )

    def list_items(self, split: str) -> list[Example]:
        if self.world.task == "mednli":
            from dsrl_tasks.mednli.procedural import make_held_out_items

            return [Example(*item) for item in make_held_out_items("dev" if split == "dev" else "test", 600)]
        options = {**self.world.bases[self.base], "split": split}
        task = load(PluginRef("task", self.world.task, options), "task")
        return list(task.hook.load_dataset(path="", split="test"))

    def measure(self, model: str, split: str) -> dict[str, Any]:
        """Return the accuracy of greedy answers, which items are right (as bits), and the accuracy by difficulty."""
        items = self.list_items(split)
        sampler = load(PluginRef("sampler", "transformers", {"model": model}), "sampler")
        answers = self.answer(sampler, [item.input for item in items], 1, 0.0, 0)
        asyncio.run(sampler.hook.aclose())
        bits, by_level = "", {}
        for number, (item, outputs) in enumerate(zip(items, answers, strict=True)):
            label = self.task.hook.process_label(output=item.output, input=item.input)
            is_right = grade(self.task, outputs[0], str(label), item.input)[1]
            bits += "01"[is_right]
            by_level.setdefault(self._find_level(item, number), []).append(is_right)
        return {
            "accuracy": bits.count("1") / len(bits),
            "right": f"{int('1' + bits, 2):x}",
            "by_level": {level: sum(own) / len(own) for level, own in sorted(by_level.items())},
        }

    def _find_level(self, item: Example, number: int) -> str:
        # The held-out items of mednli have the levels 1 to 5 in turn, three items each.
        return str(number // 3 % 5 + 1 if self.world.task == "mednli" else item.input.count("op"))


# -- the whole --------------------------------------------------------------------------------------------------------


def make(results: Results, jobs: Sequence[Job], end: float) -> None:
    """Do the jobs that have no result yet, until a time is reached."""
    subjects: dict[tuple[str, str], Subject] = {}
    pool_key, pool = None, None
    for job in jobs:
        if job.key in results.by_key:
            continue
        if time.monotonic() > end:
            return
        place = job.world, job.base
        if place not in subjects:
            subjects[place] = Subject(*place)
        subject = subjects[place]
        base_key = json.dumps([*place, "base"])
        if base_key not in results.by_key:
            results.add(base_key, **subject.measure(subject.folder, "test"))
        if job.pool_key != pool_key or pool is None:
            pool_key, pool = job.pool_key, subject.make_pool(job.seed, job.pool_key[-1])
        rate = results.find_rate(job.world, job.rule) if job.rate is None else job.rate
        results.add(job.key, **subject.train(pool, job, rate))
        record = results.by_key[job.key]
        print(f"{job.key} {record['accuracy']:.3f} {record['cpu_seconds']}s", flush=True)


def forecast(results: Results, jobs: Sequence[Job]) -> float:
    """Return about how many CPU hours what is missing will take."""
    seconds = 0.0
    pools = set()
    for job in jobs:
        if job.key in results.by_key:
            continue
        pool, scores, training = WORLDS[job.world].seconds
        if job.pool_key not in pools:
            pools.add(job.pool_key)
            seconds += pool + scores
        seconds += training + (scores if job.rule == AGAIN else 0)
    return seconds / 3600


def run_short(path: Path) -> None:
    """Compare `potential` and `random` once, at a fixed learning rate. It tests this script, and shows nothing."""
    results = Results(path)
    jobs = [Job("chains", "chains-1", 0, rule, 5e-4) for rule in ("potential", "random")]
    make(results, jobs, float("inf"))
    for job in jobs:
        record = results.by_key[job.key]
        print(f"{job.rule}: {record['accuracy']:.1%} of the development items, {record['live']:.0%} live groups")
    print("One seed, one base model: this tests the machinery and shows nothing.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the results, one a line")
    parser.add_argument(
        "--worlds", nargs="+", choices=WORLDS, default=list(WORLDS), help="for two processes side by side"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no training after so many minutes")
    parser.add_argument("--hours", action="store_true", help="print the forecast of what is missing")
    parser.add_argument("--report", action="store_true", help="print the tables, and draw the plots")
    parser.add_argument("--short", action="store_true", help="two trainings; give --results too")
    options = parser.parse_args()
    if options.short:
        run_short(options.results)
        return
    results, jobs = Results(options.results), list(list_jobs(options.worlds))
    if options.hours:
        missing = sum(job.key not in results.by_key for job in jobs)
        hours = forecast(results, jobs)
        print(
            f"{missing} of {len(jobs)} trainings are missing: about {hours:.1f} CPU hours, {hours / 2:.1f} on two cores"
        )
    elif options.report:
        from method_report import write_report

        write_report(results.by_key)
    else:
        make(results, jobs, time.monotonic() + 60 * options.minutes)


if __name__ == "__main__":
    main()
