"""The contract classes: one module for each kind of plugin. Import them from :mod:`dsrl.testing`."""
