"""The trainer: the process in which a person's training code runs, one trial after another.

A worker keeps the promises of the folder protocol. The trainer is its child, with a process group of its own: whatever
the training code does to itself or to its process, the worker lives on, knows why the attempt ended, and says so.

`main.py` is the program; `channel.py` the line to the worker; `guardian.py` ends the trainer when the worker is dead;
`objective.py` finds the training code, and `report.py` is what that code is given.
"""
