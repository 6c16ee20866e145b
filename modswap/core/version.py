"""Version of the package; the build reads it here."""

__version__ = "0.1.0"  # pragma: no cover - the pytest plugin imports it before coverage starts
