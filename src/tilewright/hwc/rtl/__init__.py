"""The block in Amaranth: one module per job. `block.Block` is the top.

Owns: hardware. It knows nothing of mappings: all it reads are registers (`hwc/program.py`).

Non-goals: checking a program; a program that `lower` refuses may do anything here.
"""
