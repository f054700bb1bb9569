"""What breaks a policy: for each module of policies one that plants violations in a render.

A plant changes a copy. It raises LookupError where the render has nothing to spoil, and another render is tried.
"""
