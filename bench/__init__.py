"""Benchmarks of the hot paths, each against a physical limit or a peer, in one run, as a ratio.  See README.md."""
