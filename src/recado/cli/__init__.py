"""The command line: wires everything; the only room that may import every other, and the only one that prints."""
