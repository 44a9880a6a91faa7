"""The package is not part of the default environment; its tests find it all the same."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

#: The mark of tests that start the real engine.
needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make test-vllm")
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model tiny with a chat template."""
    import dsrl_transformers

    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(Path(dsrl_transformers.__file__).parent / "tiny", folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    # A generation config that samples must not change what a call asks for.
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**config, "temperature": 0.3, "do_sample": True}))
    return folder
