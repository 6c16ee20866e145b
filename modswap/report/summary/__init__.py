"""An outcome in few words: the one owner of the order, words and numbers of reports for people.

The terminal report and the HTML page take the order of their sections from `sections`, the verdict
from `verdict`, what a swap costs from `cost`, a line for each site or run of equal sites from
`sites`, and what is not plain success, with its fix, from `findings`.
"""
