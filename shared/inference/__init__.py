"""Running a causal language model over packed prefill chunks and token trees (torch, CPU or CUDA).

`plan` and `blocks` are numpy only; import the submodules directly, this package imports none of them.
"""
