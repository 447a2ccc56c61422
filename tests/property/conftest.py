"""How hypothesis runs here: bounded, without a clock, and the same every time in CI."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "bounded",
    max_examples=100,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    # a driver over fakes is built for each example, inside the test: nothing is shared between examples
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("bounded")
