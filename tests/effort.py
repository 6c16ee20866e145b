"""The effort of random tests: `make test-all` tries more examples than `make test`."""

import hypothesis

THOROUGH = 10


def examples(count: int) -> int:
    """Return the number of random examples, for a test that tries so many in `make test`."""
    profile = hypothesis.settings.get_current_profile_name()
    return count * THOROUGH if profile == "thorough" else count
