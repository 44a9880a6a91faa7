from dsrl import UNREADABLE
from dsrl.testing import ProceduralTaskContract


class TestLeaseCheck(ProceduralTaskContract):
    plugin = "lease_check"
    examples = (
        ("<think> A dog is another animal. </think> <answer> No. </answer>", "no"),
        ("<answer>yes</answer>", "yes"),
        ("Yes, the tenant may do it.", UNREADABLE),
    )
