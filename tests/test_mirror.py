"""Every module of ``dsrl/`` has a mirror: the tests of ``dsrl/room/module.py`` are in ``tests/room/test_module.py``."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Modules without a mirror, and the reason.
EXCEPTIONS = {
    **dict.fromkeys(
        [f"teaching/batches/{name}.py" for name in ("coordinator", "gathering", "polling", "retries", "submission")],
        "tests/teaching/test_batches.py tests these modules together: each does one part of the way of a batch",
    ),
    "teaching/batches/limits.py": "it holds only constants",
    **dict.fromkeys(
        [f"testing/contracts/{path.name}" for path in (ROOT / "dsrl/testing/contracts").glob("[!_]*.py")],
        "it consists of tests; tests/testing/test_contracts.py tests them with good and faulty plugins",
    ),
    "pipeline/ablation.py": "tests/cli/test_ablate.py tests it with whole runs, by its command",
    "pipeline/given_data.py": "tests/cli/test_train.py tests it with whole runs, by its command",
    "pipeline/hub_push.py": "tests/cli/test_push.py tests it against a stand-in of the hub, by its command",
    "pipeline/model_eval.py": "tests/cli/test_eval.py tests it with whole runs, by its command",
    "testing/small_task.py": "it is the task of other tests",
}


def list_modules() -> list[Path]:
    """Return the modules as paths in ``dsrl/``; a package's own ``__init__.py`` is not one of them."""
    paths = (path.relative_to(ROOT / "dsrl") for path in (ROOT / "dsrl").rglob("*.py"))
    return sorted(path for path in paths if not path.name.startswith("__"))


def has_mirror(module: Path) -> bool:
    return (ROOT / "tests" / module.parent / f"test_{module.name}").is_file()


def test_every_module_has_a_mirror_or_a_reason_for_none() -> None:
    assert [str(path) for path in list_modules() if not has_mirror(path) and str(path) not in EXCEPTIONS] == []


def test_every_exception_is_a_module_without_a_mirror() -> None:
    assert set(EXCEPTIONS) <= {str(path) for path in list_modules() if not has_mirror(path)}
