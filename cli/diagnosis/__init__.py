"""What is wrong with a deployment, from a snapshot of it: pure, one function for each question.

A finding that is a problem costs requests or promises now; a warning will, or may. What could not be looked at is
said as such, and is neither.
"""
