from __future__ import annotations

import subprocess
import sys

import numpy as np

from dsrl.similarity.grams import (
    LONG,
    TEMPLATE_SHARE,
    HashedText,
    find_longest_run,
    find_template,
    hash_words,
    make_template,
)
from dsrl.similarity.words import split_words


def make_text(text: str) -> HashedText:
    return hash_words(split_words(text))


def count(first: int, last: int) -> str:
    return " ".join(f"w{i}" for i in range(first, last))


def test_equal_words_have_equal_grams_wherever_they_stand() -> None:
    text, moved = make_text(count(0, 20)), make_text(count(90, 97) + " " + count(0, 20))
    assert (text.find_windows(5).hashes == moved.find_windows(5).hashes[7:]).all()
    assert len(np.unique(text.find_windows(5).hashes)) == 16
    assert len(make_text(count(0, 4)).find_windows(5).hashes) == 0


def test_hashes_are_the_same_in_every_process() -> None:
    code = "from dsrl.similarity.grams import hash_words; print(hash_words(['a', 'é']).find_windows(2).hashes[0])"
    value = int(make_text("a é").find_windows(2).hashes[0])
    assert int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) == value


def test_a_character_of_a_script_without_spaces_is_half_a_word() -> None:
    text = make_text("我们今天下午去北京看长城")
    assert text.length == 6
    windows = text.find_windows(5)
    assert (windows.ends - windows.starts == 10).all()
    assert len(windows.hashes) == 3


def test_the_template_is_what_more_than_two_percent_share() -> None:
    frame = count(0, LONG)
    texts = [make_text(f"{frame} x{i} y{i}") for i in range(3)] + [make_text(f"z{i}") for i in range(97)]
    assert len(find_template(texts, 2).hashes) == 1
    assert len(find_template(texts[1:], 2).hashes) == 1
    assert TEMPLATE_SHARE == 2 / 100
    assert len(find_template([*texts[1:], make_text("z")], 2).hashes) == 0, "two of a hundred are not more than 2%"
    assert len(find_template(texts[:3], 5).hashes) == 0, "three are fewer than five"


def test_what_the_template_does_not_cover_is_left() -> None:
    frame = count(0, LONG + 2)
    template = make_template([make_text(frame)])
    text = make_text(f"a b {frame} c {count(0, LONG - 1)}")
    assert template.find_rest(text).tolist() == [0, 1, *range(LONG + 4, LONG + 5 + LONG - 1)]
    assert make_template([]).find_rest(text).tolist() == list(range(len(text.hashes)))


def test_the_longest_run_is_found() -> None:
    text = make_text(f"{count(0, 6)} a b {count(10, 20)} c")
    assert find_longest_run(text, make_text(f"{count(10, 20)} q {count(0, 6)}"), 5) == (8, 18)
    assert find_longest_run(text, make_text("nothing"), 5) == (0, 0)
