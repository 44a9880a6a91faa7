"""``dsrl tasks check``: proves a task before it costs anything. :func:`dsrl.plugins.task_checks.run.check_task` runs it."""
