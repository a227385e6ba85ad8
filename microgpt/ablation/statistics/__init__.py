"""Statistics of paired differences in loss: pure functions of numbers, without a store or a report.

A difference is a candidate's loss less the baseline's at the same seed: below 0 the candidate is better.
`experiments/method/README.md` has the simulations of every promise that is made here.
"""
