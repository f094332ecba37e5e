"""The files of a data set, in an out folder or behind a URL: their names, and what they claim.

product    `Product`: what the rows of a data set are
manifest   `Manifest`: what a data set holds, what it was made from, where every row went
typed      `typed`: a JSON value as one of the manifest's types
ledger     `scan_ledger`: what happened to each row
verify     `verify`: every byte of every file against what was written
remote     data sets behind a URL, fetched into a cache
download   reads one file of a URL, never more of it than expected
address    the URL of a data set: which are allowed, and what may be shown of one
folder     directories that we write to, without following a link
names      the names that files of a data set may have
sizes      checks that a manifest's numbers fit the files
"""
