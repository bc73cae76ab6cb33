"""Properties that must hold for any batching, crash and replay."""

import os


def examples(number: int) -> int:
    """Returns how many examples to try: `number`, times PROPERTY_EXAMPLES from the environment."""
    return number * int(os.environ.get("PROPERTY_EXAMPLES", "1"))
