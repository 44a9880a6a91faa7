"""``dsrl tasks export``: write a task as a package for another library. The reward stays the task's own.

The text files in ``files/`` are the templates of the packages; ``$NAME`` in them is a value that is filled in.
"""
