"""The report on judges: how they fail, what they favor, how far they agree.

report     puts everything together; the lines for a terminal
verdicts   reads the rows and their verdicts into arrays
biases     length, position, swapped orders, the judge's own family
agreement  Krippendorff's alpha, Cohen's kappa, equal winners, leaving a judge out
ranking    Bradley-Terry strengths of the models, with bootstrap intervals
estimates  shares, means and slopes with intervals that allow for dependence within a prompt
page       the report as one HTML file
"""
