"""Installing as users do, from a wheel and from source: `python -m tests.install dist/*.whl`."""
