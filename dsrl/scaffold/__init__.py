"""``dsrl new``: write the package of a new plugin.

The packages in ``examples/`` are the templates. They are real code, which linters, type checker and tests read as it is; a
new package is a copy of one of them under another name. A wheel of dsrl holds a copy of that folder.
"""
