"""Settings for all tests: no window, one thread, the same examples each time, and the folder of real data."""

import gc
import logging
import os
import signal
import sys
from pathlib import Path

# Compile each file once, not in each of the many processes, whatever the machine is set to.
os.environ["PYTHONDONTWRITEBYTECODE"] = ""
sys.dont_write_bytecode = False
# Before anything imports matplotlib or torch; commands in subprocesses inherit both.
os.environ["MPLBACKEND"] = "Agg"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # spinning threads cost four times the time where other work wants the cores
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread costs more than it brings; `make test-avx2` has two

import hypothesis  # noqa: E402 (its own files are compiled, too)
import pytest  # noqa: E402

from crp.compat import import_zennit_safely  # noqa: E402
from tests.processes import wait_for_no_disk  # noqa: E402

import_zennit_safely()  # tests import zennit before crp.attribution, sorted as their imports are
wait_for_no_disk()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background deaf to Ctrl-C

ROOT = Path(__file__).resolve().parent.parent

# The same examples on every machine and in every run; no deadline, because a busy machine is not a failure.
hypothesis.settings.register_profile("some", derandomize=True, deadline=None, max_examples=40)
hypothesis.settings.register_profile("many", derandomize=True, deadline=None, max_examples=200)


def pytest_configure(config: pytest.Config) -> None:
    """Try more examples where the slow tests run too: in `make test-all`."""
    hypothesis.settings.load_profile("some" if "not slow" in config.option.markexpr else "many")


def pytest_collection_finish() -> None:
    """Save work that every test would repeat.

    A garbage collection would look through all that is loaded by now. pytest would add its handlers to, and take them
    from, each of torch's forty loggers that do not propagate.
    """
    gc.collect()
    gc.freeze()
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.propagate = True


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real models and pictures: CRP_TEST_DATA, by default ../shared/data beside the checkout."""
    folder = Path(os.environ.get("CRP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data absent: no folder {folder}; name it in CRP_TEST_DATA")
    return folder
