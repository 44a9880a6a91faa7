from dsrl import UNREADABLE
from dsrl.testing import TaskContract


class TestLease(TaskContract):
    plugin = "lease"
    examples = (
        ("<think> A dog is another animal. </think> <answer> No. </answer>", "no"),
        ("<answer>yes</answer>", "yes"),
        ("Yes, the tenant may do it.", UNREADABLE),
    )
