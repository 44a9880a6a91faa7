from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrl.answers.places import LONGEST_ANSWER, cut_thinking, find_after_hashes, find_last_boxed, find_last_tag


@pytest.mark.parametrize(
    ("output", "rest"),
    [
        ("no thoughts", "no thoughts"),
        ("<think> a </think> b", " b"),
        ("a </think> b", " b"),
        ("<THINK> a </Think> b", " b"),
        ("<think> a </think> b <think> c </think> d", " d"),
        ("<thinking> a </thinking> b", " b"),
        ("<think> a", None),
        ("<think> a </think> b <think> c", None),
        ("<think> a <answer>b</answer> </think>", ""),
    ],
)
def test_the_thinking_part_is_cut_off(output: str, rest: str | None) -> None:
    assert cut_thinking(output) == rest


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<answer>a</answer> <answer>b</answer> c", ("b", True)),
        ("<answer>a</answer> <answer>b", ("b", False)),
        ("<RESULT>a</Result>", ("a", True)),
        ("<result>a</answer>", ("a", True)),
        ("< answer >a</ answer>", ("a", True)),
        ("<answer>a <answer>b</answer></answer>", ("b", True)),
        ("</answer>a", None),
        ("<answers>a</answers>", None),
    ],
)
def test_the_last_tag_is_found(text: str, found: tuple[str, bool] | None) -> None:
    assert find_last_tag(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{1} \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed{a\\}", r"a\\"),
        (r"\boxed{1} \boxed{2", None),
        (r"boxed{1}", None),
        (r"\boxed{" + "1" * LONGEST_ANSWER + "}", None),
    ],
)
def test_the_last_box_is_found(text: str, found: str | None) -> None:
    assert find_last_boxed(text) == found


@given(st.recursive(st.text(alphabet="ab1 ", min_size=1, max_size=3), lambda s: s.map(lambda t: f"x{{{t}}}")))
def test_nested_braces_are_read_whole(inner: str) -> None:
    assert find_last_boxed(f"so \\boxed{{{inner}}} }} done") == inner


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a #### 1 #### 2\nb\nc", ("2", "b")),
        ("####\n\n 72 \n\n b", ("72", "b")),
        ("#### Answer:\n72", ("72", "")),
        ("#### **The final answer is:**\n\n72\nb", ("72", "b")),
        ("#### The answer is 72", ("The answer is 72", "")),
        ("####", ("", "")),
        ("### 72", None),
    ],
)
def test_the_line_after_the_hashes_is_found(text: str, lines: tuple[str, str] | None) -> None:
    assert find_after_hashes(text) == lines


@given(st.text(alphabet="<>/answerthink#\\boxed{} \n", max_size=60))
def test_any_text_has_a_place_or_none(text: str) -> None:
    for find in (cut_thinking, find_last_tag, find_last_boxed, find_after_hashes):
        find(text)
