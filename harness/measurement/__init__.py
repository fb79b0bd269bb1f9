"""Measuring time honestly: alone on the machine, and with a word on how much of the machine there was."""
