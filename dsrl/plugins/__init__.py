"""Plugins: the contracts of every kind, finding what is installed, binding and guarding one plugin."""
