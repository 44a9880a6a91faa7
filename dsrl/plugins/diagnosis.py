"""``dsrl doctor`` on plugins: which of the installed ones can work on this machine, and what the others need.

Every plugin answers for itself, by its hook ``diagnose``, in a process of its own: one that cannot be imported, hangs or
ends its process is a finding like any other.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from dsrl.errors import DsrlError, SettingsError
from dsrl.plugins.binding import load, takes_option
from dsrl.plugins.catalogue import read_catalogue
from dsrl.plugins.discovery import PluginInfo, list_plugins
from dsrl.text import printable
from dsrl.types import Finding, PluginRef

#: The kinds of plugins that the machine decides on.
KINDS = ("sampler", "trainer")
#: Seconds that the diagnosis of one plugin may take.
TIME_LIMIT = 180.0
_LEVELS = ("ok", "note", "warning", "problem")
_LONGEST = 2000
_MOST_FINDINGS = 50


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found out about one plugin.

    Attributes:
        kind, name: the plugin.
        distribution: the package that has it.
        version: its version; empty if it is not installed.
        findings: the worst one is last to be read and first to be mended.
    """

    kind: str
    name: str
    distribution: str
    version: str
    findings: tuple[Finding, ...]

    @property
    def is_installed(self) -> bool:
        """Whether the plugin is installed."""
        return bool(self.version)

    @property
    def level(self) -> str:
        """The worst level of its findings; ``ok`` if there are none."""
        return max((finding.level for finding in self.findings), key=_LEVELS.index, default="ok")


def diagnose_plugins(options: Mapping[str, Any], time_limit: float = TIME_LIMIT) -> list[Diagnosis]:
    """Diagnose all samplers and trainers: the installed ones, and those of dsrl's own catalogue that are not installed.

    Args:
        options: options that each plugin gets that takes them, for example ``model`` and ``ray_address``.
        time_limit: seconds that one plugin may take.
    """
    installed = [plugin for kind in KINDS for plugin in list_plugins(kind)]
    # Two at a time: each imports large libraries, and most of them wait for the disk.
    with ThreadPoolExecutor(max_workers=2) as pool:
        found = list(pool.map(lambda plugin: _diagnose(plugin, options, time_limit), installed))
    names = {(plugin.kind, plugin.name) for plugin in installed}
    for entry in read_catalogue():
        if entry.kind in KINDS and (entry.kind, entry.name) not in names:
            command = f"pip install {' '.join(entry.make_requirements())}"
            finding = Finding(
                "note", f"not installed: {entry.summary}", f"{command}   (in the folder of the repository)"
            )
            found.append(Diagnosis(entry.kind, entry.name, entry.distribution, "", (finding,)))
    return sorted(found, key=lambda one: (one.kind, not one.is_installed, one.name))


def find_missing_packages(distribution: str) -> list[str]:
    """Return the requirements of an installed distribution that are not installed; nothing is imported.

    Requirements of extras and those with a condition are left out.
    """
    missing = []
    try:
        needed = requires(distribution) or []
    except PackageNotFoundError:
        return []
    for requirement in needed:
        name = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
        if ";" in requirement or name is None:
            continue
        try:
            version(name[0])
        except PackageNotFoundError:
            missing.append(requirement)
    return missing


def _diagnose(plugin: PluginInfo, options: Mapping[str, Any], time_limit: float) -> Diagnosis:
    findings = [
        Finding(
            "problem",
            f"{plugin.distribution} needs {requirement}, which is not installed",
            f"pip install '{requirement}'",
        )
        for requirement in find_missing_packages(plugin.distribution)
    ]
    if not findings:
        findings = _ask(plugin, options, time_limit)
    return Diagnosis(plugin.kind, plugin.name, plugin.distribution, plugin.version or "unknown", tuple(findings))


def _ask(plugin: PluginInfo, options: Mapping[str, Any], time_limit: float) -> list[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "dsrl.plugins.diagnosis", plugin.kind, plugin.name, str(report)]
        fault = ""
        try:
            ran = subprocess.run(
                [*command, json.dumps(dict(options))],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=time_limit,
                check=False,
            )
            if ran.returncode:
                fault = f"it ended its process with exit code {ran.returncode}"
        except subprocess.TimeoutExpired:
            fault = f"it did not answer within {time_limit:.0f} s"
        if not fault:
            return _read_report(report.read_text(encoding="utf-8"))
    mend = f"pip install --force-reinstall {plugin.distribution}"
    return [Finding("problem", f"{plugin} cannot be asked: {fault}", mend)]


def _read_report(text: str) -> list[Finding]:
    return [
        Finding(item["level"], printable(item["text"])[:_LONGEST], printable(item["mend"])[:_LONGEST])
        for item in json.loads(text)
    ]


def _check_levels(findings: Sequence[Finding], plugin: str) -> Sequence[Finding]:
    for finding in findings:
        if finding.level not in _LEVELS:
            text = f"{plugin}: its hook diagnose returned the level {finding.level!r:.50}; it is one of {', '.join(_LEVELS)}"
            return [Finding("problem", text)]
    return findings[:_MOST_FINDINGS]


def _main(kind: str, name: str, report: str, options: str) -> None:
    """Diagnose one plugin in this process and write the findings to a file."""
    values = json.loads(options)
    try:
        own = {key: value for key, value in values.items() if value and takes_option(kind, name, key)}
        if kind == "sampler":
            own["model"] = values.get("model", "")  # every sampler has this option
        plugin = load(PluginRef(kind, name, own), kind)
        findings: Sequence[Finding] = [Finding("ok", "it can be imported, and its hooks fit")]
        if plugin.implements("diagnose"):
            findings = _check_levels(plugin.hook.diagnose(model=values.get("model", "")) or (), str(plugin.name))
    except SettingsError as error:  # it needs an option, for example the address of a server
        findings = [Finding("warning", str(error))]
    except DsrlError as error:
        findings = [Finding("problem", str(error))]
    Path(report).write_text(json.dumps([asdict(finding) for finding in findings]), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
