"""Small worlds in which the effects of a selection or of wrong labels can be measured on a CPU.

A base model knows the rules of its world in part: it answers some inputs nearly always, some now and then, and some never.
"""
