"""Which texts are copies of each other: texts in normal form, what they have in common, and what only their template has."""
