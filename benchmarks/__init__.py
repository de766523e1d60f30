"""What is measured of the committed models; `python -m benchmarks.results` writes docs/results.md."""
