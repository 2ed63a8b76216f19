"""A pytest plugin for the runs on faulty servers: no self-test of the target.

The self-test kills a backend and expects a whole crash cycle, so many faults would end the run
before the scenario starts.
"""

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_self_test() -> None:
    """Disable the self-test before the fixture `template` runs it."""
    proof = "pglife_conformance.pytest.fixtures.prove_that_deaths_are_seen"
    pytest.MonkeyPatch().setattr(proof, lambda state, template: None)
