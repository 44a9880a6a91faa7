"""The options of the sampler ``ray``, checked when the plugin is made."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dsrl import PluginRef, SettingsError
from dsrl_ray.connection import check_address

FLAG = "--sampler-option"
#: An option of the sampler in the workers stands behind this word: ``set.tensor_parallel=2``.
SET = "set"
#: Options that go to the sampler in the workers as they are.
_PASSED = ("device", "dtype")


@dataclass(frozen=True, slots=True)
class RayOptions:
    """The options; see :class:`dsrl_ray.sampler.RaySampler`."""

    model: str
    sampler: str = "transformers"
    ray_address: str = ""
    actors: int = 0
    cpus: int = 1
    gpus: int = -1
    chunk: int = 0
    start_seconds: int = 600
    inner: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ref(self) -> PluginRef:
        """The sampler in the workers."""
        return PluginRef("sampler", self.sampler, {"model": self.model, **self.inner})


def parse_options(values: Mapping[str, Any]) -> RayOptions:
    """Check the options as the user gave them.

    Raises:
        SettingsError: an option is unknown, or its value is wrong.
    """
    known = [name for name in RayOptions.__dataclass_fields__ if name != "inner"]
    plain: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    for name, value in values.items():
        if name == SET or name.startswith(f"{SET}."):
            inner.update(_read_inner(name, value))
        elif name in _PASSED:
            inner[name] = value
        elif name in known:
            plain[name] = value
        else:
            near = difflib.get_close_matches(name, [*known, *_PASSED], n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"the options are {', '.join(known)}."
            raise SettingsError(
                f"the sampler ray has no option {name!r}; {hint} An option of the sampler in the workers is given as {FLAG} "
                f"{SET}.{name}=.."
            )
    options = RayOptions(**plain, inner=inner)
    for name, minimum in (("actors", 0), ("cpus", 0), ("gpus", -1), ("chunk", 0), ("start_seconds", 1)):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise SettingsError(f"{FLAG} {name}={value} must be a whole number of at least {max(0, minimum)}")
    if not isinstance(options.sampler, str) or options.sampler.partition(":")[0] == "ray":
        raise SettingsError(f"{FLAG} sampler={options.sampler}: name the sampler of the workers: transformers or vllm")
    check_address(options.ray_address, FLAG)
    return options


def _read_inner(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the options behind ``set``; in a settings file they can be a table."""
    if name == SET and isinstance(value, Mapping):
        yield from value.items()
    elif name.removeprefix(f"{SET}.") and name != SET:
        yield name.removeprefix(f"{SET}."), value
    else:
        raise SettingsError(
            f"{FLAG} {name}: write the name of an option of the sampler in the workers behind {SET}., for example "
            f"{SET}.tensor_parallel=2"
        )
