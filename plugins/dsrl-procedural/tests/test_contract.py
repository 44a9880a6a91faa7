"""The teacher keeps the contract of teachers."""

from __future__ import annotations

from dsrl.testing import TeacherContract


class TestProcedural(TeacherContract):
    plugin, task = "procedural", "mednli"
