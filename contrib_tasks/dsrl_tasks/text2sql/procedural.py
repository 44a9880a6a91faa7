"""A small language of tables and questions. Rules write the questions and read them again.

Level 1 filters rows, level 2 counts them, level 3 takes the largest, the smallest or the sum of a column, level 4 joins two
tables, and level 5 groups. The tables have no rows: the right query must be right whatever rows they hold.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from dsrl_tasks.text2sql.queries import make_input

LEVELS = range(1, 6)


class Solved(NamedTuple):
    """What ``solve`` finds for an input: the right query, and the level of the input."""

    label: str
    level: int


class Vocabulary(NamedTuple):
    """The tables, the tables that own their rows, and the columns of one split."""

    tables: tuple[str, ...]
    owners: tuple[str, ...]
    numbers: tuple[str, ...]
    groups: tuple[str, ...]


class Forms(NamedTuple):
    """The sentences of one split: conditions by operator, aggregates by function, and questions by kind."""

    conditions: Mapping[str, str]
    aggregates: Mapping[str, str]
    filter: tuple[str, ...]
    counts: tuple[str, ...]
    aggregate: tuple[str, ...]
    join: tuple[str, ...]
    group_count: tuple[str, ...]
    group_aggregate: tuple[str, ...]


GENERATOR = Vocabulary(
    tables=("pets", "books", "cars", "trees", "songs", "games", "ships", "shops"),
    owners=("owners", "clubs", "towns", "schools"),
    numbers=("age", "weight", "price", "size", "length", "score"),
    groups=("color", "kind", "country", "month"),
)
DEV = Vocabulary(("lamps", "bikes", "films"), ("firms", "teams"), ("height", "cost"), ("brand", "region"))
TEST = Vocabulary(("boats", "horses", "houses"), ("farms", "banks"), ("speed", "value"), ("style", "city"))

GENERATOR_FORMS = Forms(
    conditions={">": "{c} above {n}", "<": "{c} below {n}", "=": "{c} equal to {n}"},
    aggregates={"MAX": "largest", "MIN": "smallest", "SUM": "total"},
    filter=("Which {t} have a {w}?", "List the names of the {t} with a {w}."),
    counts=("How many {t} have a {w}?", "Count the {t} with a {w}."),
    aggregate=("What is the {a} {c} of the {t} with a {w}?", "Find the {a} {c} of the {t} with a {w}."),
    join=("Which {t} belong to {o} with a {w}?", "List the names of the {t} that belong to {o} with a {w}."),
    group_count=("How many {t} are there for each {g}?", "Count the {t} for each {g}."),
    group_aggregate=("What is the {a} {c} of the {t} for each {g}?", "Find the {a} {c} of the {t} for each {g}."),
)
DEV_FORMS = Forms(
    conditions={">": "{c} over {n}", "<": "{c} under {n}", "=": "{c} of exactly {n}"},
    aggregates={"MAX": "highest", "MIN": "lowest", "SUM": "summed"},
    filter=("Name the {t} that have a {w}.",),
    counts=("Give the number of {t} that have a {w}.",),
    aggregate=("Give the {a} {c} among {t} that have a {w}.",),
    join=("Name the {t} whose {o} have a {w}.",),
    group_count=("Give each {g} and its number of {t}.",),
    group_aggregate=("Give each {g} and the {a} {c} of its {t}.",),
)
TEST_FORMS = Forms(
    conditions={">": "{c} greater than {n}", "<": "{c} less than {n}", "=": "{c} that is {n}"},
    aggregates={"MAX": "maximum", "MIN": "minimum", "SUM": "overall"},
    filter=("Show all {t} which have a {w}.",),
    counts=("Show how many of the {t} come with a {w}.",),
    aggregate=("Show the {a} {c} over all {t} which have a {w}.",),
    join=("Show all {t} which are part of {o} that have a {w}.",),
    group_count=("Show every {g} with how many {t} it has.",),
    group_aggregate=("Show every {g} with the {a} {c} over its {t}.",),
)


def write(rng: random.Random, level: int, passage: str) -> tuple[str, str]:
    """Write an input of the level, about things that the passage names if there are any. Return input and output."""
    words = set(re.findall(r"[a-z]+", passage[:4096].lower()))
    anchored = Vocabulary(*(tuple(word for word in part if word in words) or part for part in GENERATOR))
    return _compose(rng, level, anchored, GENERATOR, GENERATOR_FORMS)


def make_held_out_items(split: Literal["dev", "test"], n: int) -> list[tuple[str, str]]:
    """Make the first n items of a split: input and output, with balanced levels.

    Their sentences, tables and columns are never used by ``write``.
    """
    vocabulary, forms = {"dev": (DEV, DEV_FORMS), "test": (TEST, TEST_FORMS)}[split]
    rng = random.Random(f"text2sql {split}")
    return [_compose(rng, LEVELS[i % len(LEVELS)], vocabulary, vocabulary, forms) for i in range(n)]


# -- writing ----------------------------------------------------------------------------------------------------------


def _compose(
    rng: random.Random, level: int, anchors: Vocabulary, vocabulary: Vocabulary, forms: Forms
) -> tuple[str, str]:
    table, owner, group = rng.choice(anchors.tables), rng.choice(anchors.owners), rng.choice(anchors.groups)
    first = rng.choice(anchors.numbers)
    second = rng.choice([column for column in vocabulary.numbers if column != first])
    operator, number = rng.choice("><="), rng.randrange(2, 60)
    function = rng.choice(("MAX", "MIN", "SUM"))
    words = {"t": table, "o": owner, "g": group, "c": first, "a": forms.aggregates[function]}
    words["w"] = forms.conditions[operator].format(c=second, n=number)
    condition = f"{second} {operator} {number}"
    schema = [_make_table(table, (*_shuffle(rng, first, second), group), level == 4 and owner)]
    if level == 4:
        schema = [_make_table(table, (first, group), owner), f"CREATE TABLE {owner} (id INTEGER, {second} INTEGER);"]
        rng.shuffle(schema)
        form, thought = rng.choice(forms.join), f"{table} join {owner} {condition}"
        query = _write_join(table, owner, condition)
    elif level == 5 and rng.random() < 0.5:
        form, thought = rng.choice(forms.group_count), f"{table} group {group} COUNT"
        query = _write_group(table, group, "COUNT(*)")
    elif level == 5:
        form, thought = rng.choice(forms.group_aggregate), f"{table} group {group} {function} {first}"
        query = _write_group(table, group, f"{function}({first})")
    else:
        kinds = {1: (forms.filter, "name"), 2: (forms.counts, "COUNT(*)"), 3: (forms.aggregate, f"{function}({first})")}
        ways, selected = kinds[level]
        form, thought = rng.choice(ways), f"{table} {condition} {selected}"
        query = _write_filter(table, selected, condition)
    text = make_input(" ".join(schema), form.format(**words))
    return text, f"<think> {thought} </think> <answer> {query} </answer>"


def _shuffle(rng: random.Random, *columns: str) -> tuple[str, ...]:
    return tuple(rng.sample(columns, len(columns)))


_TEXT_COLUMNS = frozenset((*GENERATOR.groups, *DEV.groups, *TEST.groups))


def _make_table(table: str, columns: tuple[str, ...], owner: str | Literal[False]) -> str:
    types = [f"{column} {'TEXT' if column in _TEXT_COLUMNS else 'INTEGER'}" for column in columns]
    key = [f"{owner}_id INTEGER"] if owner else []
    return f"CREATE TABLE {table} ({', '.join(['name TEXT', *types, *key])});"


def _write_filter(table: str, selected: str, condition: str) -> str:
    return f"SELECT {selected} FROM {table} WHERE {condition}"


def _write_join(table: str, owner: str, condition: str) -> str:
    return f"SELECT {table}.name FROM {table} JOIN {owner} ON {table}.{owner}_id = {owner}.id WHERE {owner}.{condition}"


def _write_group(table: str, group: str, selected: str) -> str:
    return f"SELECT {group}, {selected} FROM {table} GROUP BY {group}"


# -- reading ----------------------------------------------------------------------------------------------------------

_FUNCTIONS = {word: function for function, word in GENERATOR_FORMS.aggregates.items()}
_OPERATORS = {
    text.split(maxsplit=1)[1].rsplit(maxsplit=1)[0]: sign for sign, text in GENERATOR_FORMS.conditions.items()
}
_GROUPS = {
    "t": f"(?P<t>{'|'.join(GENERATOR.tables)})",
    "o": f"(?P<o>{'|'.join(GENERATOR.owners)})",
    "g": f"(?P<g>{'|'.join(GENERATOR.groups)})",
    "c": f"(?P<c>{'|'.join(GENERATOR.numbers)})",
    "a": f"(?P<a>{'|'.join(_FUNCTIONS)})",
    "w": rf"(?P<w>{'|'.join(GENERATOR.numbers)}) (?P<s>{'|'.join(_OPERATORS)}) (?P<n>[0-9]{{1,6}})",
}


def _make_patterns() -> list[tuple[str, re.Pattern[str]]]:
    kinds = ("filter", "counts", "aggregate", "join", "group_count", "group_aggregate")
    return [
        (kind, re.compile(re.sub(r"\\\{(\w)\\\}", lambda match: _GROUPS[match[1]], re.escape(form))))
        for kind in kinds
        for form in getattr(GENERATOR_FORMS, kind)
    ]


_PATTERNS = _make_patterns()
_INPUT = re.compile(r"Schema:\n((?:CREATE TABLE [a-z]+ \([a-z_ A-Z,]+\); ?){1,2})\nQuestion: ([^\n]+)")
_TABLE = re.compile(r"CREATE TABLE ([a-z]+) \(([a-z_ A-Z,]+)\);")


def solve(text: str) -> Solved | None:
    """Read an input and write its query; None if the input is not in the language of ``write``."""
    match = _INPUT.fullmatch(text.strip())
    if match is None:
        return None
    columns = {table: {item.split()[0] for item in parts.split(", ")} for table, parts in _TABLE.findall(match[1])}
    for kind, pattern in _PATTERNS:
        question = pattern.fullmatch(match[2])
        if question:
            return _solve(kind, {name: word or "" for name, word in question.groupdict().items()}, columns)
    return None


def _solve(kind: str, words: Mapping[str, str], columns: Mapping[str, set[str]]) -> Solved | None:
    table = words["t"]
    condition = f"{words['w']} {_OPERATORS[words['s']]} {words['n']}" if "w" in words else ""
    selected = f"{_FUNCTIONS[words['a']]}({words['c']})" if "a" in words else ""
    needed = {table: {"name", *(words[part] for part in "cg" if part in words)}}
    if kind == "join":
        needed[table].add(f"{words['o']}_id")
        needed[words["o"]] = {"id", words["w"]}
    elif "w" in words:
        needed[table].add(words["w"])
    if any(not names <= columns.get(name, set()) for name, names in needed.items()):
        return None
    match kind:
        case "filter":
            return Solved(_write_filter(table, "name", condition), 1)
        case "counts":
            return Solved(_write_filter(table, "COUNT(*)", condition), 2)
        case "aggregate":
            return Solved(_write_filter(table, selected, condition), 3)
        case "join":
            return Solved(_write_join(table, words["o"], condition), 4)
        case _:
            return Solved(_write_group(table, words["g"], selected or "COUNT(*)"), 5)
