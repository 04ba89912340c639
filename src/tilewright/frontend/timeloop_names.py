"""What Timeloop calls things, and what we call them.

Owns: the two lists of names, for reading and for writing.
"""

from collections.abc import Iterable

OPERANDS = {"Weights": "W", "Inputs": "I", "Outputs": "O"}
DATA_SPACES = {ours: theirs for theirs, ours in OPERANDS.items()}


def operand_names(data_spaces: Iterable[str]) -> dict[str, str]:
    """Our names of data spaces: W, I, O for those of a convolution, else their own.

    >>> operand_names(["Weights", "Inputs", "Outputs"])["Inputs"], operand_names(["A", "B"])["A"]
    ('I', 'A')
    """
    names = list(data_spaces)
    is_convolution = set(names) == set(OPERANDS)
    return {name: OPERANDS[name] if is_convolution else name for name in names}


def data_space_names(operands: Iterable[str]) -> dict[str, str]:
    """Timeloop's names of operands: the way back of `operand_names`."""
    names = list(operands)
    is_convolution = set(names) == set(DATA_SPACES)
    return {name: DATA_SPACES[name] if is_convolution else name for name in names}
