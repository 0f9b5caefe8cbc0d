"""The parts of the check, in the order of their worth; each runs in a process of its own."""
