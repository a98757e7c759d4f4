"""The command line and the small model of the driver's tests."""

from tests.driver.conftest import inputs, model, ttfsc

__all__ = ["inputs", "model", "ttfsc"]
