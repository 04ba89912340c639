"""Whatever is fed to the readers of other tools' files, the answer is a noun or an `InputError`.

What is read can be written, and reads back equal: the readers' own promise.
"""

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from test_fuzz import answers, damaged
from test_interchange import ACCELFORGE, ZIGZAG_CHIP, ZIGZAG_NET
from test_run import OLD_MAP_TEXT
from test_timeloop_files import BY_HAND, ERT, NEST, PROBLEM

from tilewright.analysis.interchange import write_ours
from tilewright.analysis.run import operand_parts, parse_run
from tilewright.errors import InputError, Source
from tilewright.frontend.accelforge import read_accelforge
from tilewright.frontend.foreign import Imported
from tilewright.frontend.timeloop_files import read_timeloop
from tilewright.frontend.zigzag import read_zigzag_hardware, read_zigzag_workload

WHOLE = BY_HAND + PROBLEM + ERT + NEST


def written(found: Imported) -> None:
    """Write what was read; it checks itself. Padding that no file can say is refused."""
    with suppress(InputError):
        write_ours(found)


@settings(max_examples=400)
@given(damaged(WHOLE) | damaged(ERT) | st.text(max_size=200))
def test_timeloop(text: str) -> None:
    answers(lambda source: written(read_timeloop([source])), text)


@settings(max_examples=200)
@given(damaged(PROBLEM), damaged(NEST))
def test_timeloop_mappings(problem: str, nest: str) -> None:
    others = [Source("arch.yaml", BY_HAND), Source("problem.yaml", problem)]
    answers(lambda source: written(read_timeloop([*others, source])), nest)


@settings(max_examples=300)
@given(damaged(ZIGZAG_CHIP))
def test_zigzag_hardware(text: str) -> None:
    answers(lambda source: written(read_zigzag_hardware(source)), text)


@settings(max_examples=300)
@given(damaged(ZIGZAG_NET) | st.text(max_size=200))
def test_zigzag_workloads(text: str) -> None:
    answers(lambda source: written(read_zigzag_workload(source)), text)


@settings(max_examples=300)
@given(damaged(ACCELFORGE) | st.text(max_size=200))
def test_accelforge(text: str) -> None:
    answers(lambda source: written(read_accelforge(source)), text)


@settings(max_examples=300)
@given(damaged(OLD_MAP_TEXT) | st.text(max_size=200))
def test_saved_runs(text: str) -> None:
    def read(source: Source) -> None:
        for layer in parse_run(source.text).layers:
            list(operand_parts(layer))

    answers(read, text)
