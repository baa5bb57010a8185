"""Asking somebody outside between two transactions of ours: intent, call, outcome."""
