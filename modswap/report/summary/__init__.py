"""An outcome in few words: the owner of the order, words and numbers of reports for people.

Made for the terminal report and for the HTML page: the order of the sections is in `sections`, the
verdict in `verdict`, what a swap costs in `cost`, a line for each site or run of equal sites in
`sites`, and what is not plain success, with its fix, in `findings`.
"""
