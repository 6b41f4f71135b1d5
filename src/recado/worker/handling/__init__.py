"""Handlers and their hands: which records go side by side, in threads, tasks or processes, how much at once."""
