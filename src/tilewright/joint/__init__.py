"""Hardware and mappings together: spaces of chips, searches in them, fronts.

Owns: what `tilewright codesign` does. Source: `docs/codesign.md`.

Non-goals: mapping a layer on a given chip (`mapper/`), counting and pricing (`model/`).
"""
