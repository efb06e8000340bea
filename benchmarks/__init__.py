"""What each figure was measured with: `python -m benchmarks.NAME [--quick]`; the last line is JSON."""
