"""Sources of small tasks, for tests that install a task as the module of a stranger."""

YES_NO = """
from dsrl import UNREADABLE, AnswerFormat, hookimpl

@hookimpl
def description():
    return "Say yes or no."

@hookimpl
def answer_format():
    return AnswerFormat("tag", choices=("yes", "no"))
"""

#: A good task with a parser and a test set of its own, to which a test appends a faulty hook.
STRICT = """
import os
from dsrl import UNREADABLE, Example, Reward, hookimpl

@hookimpl
def description():
    return "Say yes or no."

@hookimpl
def output_instruction():
    return "Write yes or no into <answer> </answer>."

@hookimpl
def process_prediction(output):
    end = output.rfind("</answer>")
    start = output.rfind("<answer>", 0, max(end, 0))
    word = output[start + 8 : end].strip().casefold() if start >= 0 else ""
    return word if word in ("yes", "no") else UNREADABLE

@hookimpl
def process_label(output):
    word = output.strip().casefold()
    return word if word in ("yes", "no") else UNREADABLE

@hookimpl
def demos():
    return [Example("Is 2 even? (yes or no)", "yes")]

@hookimpl
def load_dataset(path):
    return [Example(f"Is {n} even? (yes or no)", "no" if n % 2 else "yes") for n in range(20)]
"""

#: Check -> faulty hooks that it finds in :data:`STRICT`, with words of the finding.
FAULTY_HOOKS = {
    "hooks": [
        ("def eval(prediction):\n    return prediction\n", "its hook eval returned str"),
        ("def domains():\n    return 'dogs'\n", "its hook domains returned str"),
    ],
    "instructions": [("def output_instruction():\n    return ' '\n", "output_instruction returned an empty text")],
    "demonstrations": [
        ("def demos():\n    return [Example('Is it?', 'perhaps')]\n", "demonstration 1: process_label reads no label"),
        ("def demos():\n    return [Example('', 'yes')]\n", "its input or its output is empty"),
    ],
    "test-set": [
        ("def load_dataset():\n    return []\n", "the test set of the task is empty"),
        ("def load_dataset():\n    return [Example('', 'yes')]\n", "item 1: its input is empty"),
        ("def load_dataset():\n    return [][0]\n", "its hook load_dataset failed with IndexError"),
    ],
    "labels": [
        (
            "def process_label(output):\n    return 'yes' if output == 'yes' else UNREADABLE\n",
            "item 2: process_label reads no",
        ),
        (
            "def process_label(output):\n    return 'no' if output == 'yes' else 'yes'\n",
            "makes 'yes' of its own label 'no'",
        ),
        (
            "def eval(prediction, label):\n    return prediction == 'yes'\n",
            "eval says that the label 'no' is not the right",
        ),
        ("def process_label(output):\n    return output[0].upper()\n", "find the label 'Y' neither"),
        ("def process_label(output):\n    return ' '\n", "process_label returned an empty label"),
    ],
    "right-over-wrong": [
        ("def reward(output):\n    return 1.0\n", "the right answer 'yes' earns 1, and the wrong answer 'no' earns 1"),
        ("def reward(output, label):\n    return 0.0 if label in output else 1.0\n", "earns 0, and the wrong answer"),
        ("def reward():\n    return float('nan')\n", "its hook reward returned nan; return a finite number"),
        ("def reward():\n    return float('inf')\n", "its hook reward returned inf; return a finite number"),
        (
            "def reward(output):\n    return 1 / 0\n",
            "its hook reward failed with ZeroDivisionError: division by zero (",
        ),
    ],
    "garbage": [
        ("def reward(output):\n    return float(len(output))\n", "and the right answer earns"),
        ("def reward(output):\n    return float(output[0] == '<')\n", "its hook reward failed with IndexError"),
        ("def process_prediction(output):\n    return output.strip()\n", "process_prediction returned an empty answer"),
    ],
    "shortcuts": [
        (
            "def reward(output, label):\n    return 1.0 if label in output else 0.0\n",
            "every label in one answer: earns 1 on average",
        ),
        (
            "def process_prediction(output):\n    return next((w for w in ('yes', 'no') if w in output), UNREADABLE)\n",
            "a denial (not RIGHT): ",
        ),
        (
            "def reward(output, label):\n    right = f'<answer> {label} </answer>' in output\n"
            "    return right + min(len(output) / 5000, 1.0)\n",
            "always the most frequent label, after a long text: earns",
        ),
        (
            "def process_prediction(output):\n    word = output.rpartition('<answer>')[2].partition('<')[0].strip()\n"
            "    return word.partition(' ')[0].strip('.,') or UNREADABLE\n",
            "two answers in one (RIGHT or WRONG): 100% right, where at most",
        ),
    ],
    "repeatability": [
        (
            "def reward(output):\n    SEEN.append(1)\n    return float(len(SEEN))\nSEEN = []\n",
            "when it was asked again",
        ),
        (
            "def reward(output):\n    SEEN.append(output)\n    return float(SEEN[-2:][0] < output)\nSEEN = []\n",
            "when it was asked in another order",
        ),
    ],
}
