"""C programs for CPUs: a layer blocked for the caches, written as C, compiled and called.

Owns: the CPU as hardware (`cpu`), what a program can compute (`shape`), the blocking and its
predicted traffic (`blocking`), the text of the program (`emit`), compiling and calling it
(`build`, `kernel`).

Non-goals: mappings for accelerators (`mapper/`). `docs/compile.md` explains the whole.
"""
